"""`python -m deepseek_proxy` is the `deepseek-proxy` command."""

from deepseek_proxy.cli import main

if __name__ == "__main__":
    main(prog_name="deepseek-proxy")
