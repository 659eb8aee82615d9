"""Runs of a server, from anywhere: the calls of a Runtime over HTTP.

    service.py      what a Runtime and a Client share: the Protocol for code that takes either
    client.py       the Client, and the handle of one run
    following.py    a run's journal as a stream that survives the server
    connection.py   requests, which of them may be sent again, and what problems mean
    reading.py      JSON of the server as the values of this package

Nothing here works on runs or opens a store: the server does.
"""
