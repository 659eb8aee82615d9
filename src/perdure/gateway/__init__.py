"""Where people, programs and other agents reach a Runtime: HTTP in, problem details or JSON out.

    app.py         the ASGI application: guard -> who is it -> which endpoint -> its scope -> parse -> call -> render
    endpoint.py    what an endpoint is; routes/ holds them, one file for each kind of thing
    access/        keys, cookies, tokens of others, rates: who may
    openapi.py     the document that describes all of it, made from the endpoints
    events.py      streams: Server-Sent Events out of the journal
    serving.py     the server around it

Nothing here decides anything about runs: each endpoint calls the Runtime once and shows what came of it.
"""
