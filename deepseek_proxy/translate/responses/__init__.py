"""The OpenAI Responses dialect: `request` and `items` inwards, `response`, `stream` and `errors` outwards."""
