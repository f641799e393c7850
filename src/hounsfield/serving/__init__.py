"""The HTTP server: sockets below, any ASGI application above, several processes side by side.

``head.py`` reads request heads (llhttp does the parsing), ``connection.py`` is one connection and its requests,
``exchange.py`` one request and its answer as ASGI has them, ``process.py`` one process that serves, and
``supervisor.py`` what keeps several of them running.

Why there is one of our own: images are megabytes, and what a server costs for them is copies. Here a request body is
received where it stays, and a file is sent by the kernel (``hounsfield.files``); see docs/architecture.md for
what that was measured to bring. Nothing here knows of DICOM, and the application runs on any other ASGI server too.
"""
