"""A mail server with STARTTLS that prints what it takes: smtp_server.py CERT KEY."""

import asyncio
import ssl
import sys

from aiosmtpd.smtp import SMTP


class Printer:
    async def handle_DATA(self, server, session, envelope):
        print("mail over", "tls" if session.ssl else "plain", envelope.rcpt_tos, flush=True)
        for line in envelope.content.decode().splitlines():
            print("line", line, flush=True)
        return "250 taken"


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:3])

    def factory():
        return SMTP(Printer(), hostname="localhost", tls_context=context, require_starttls=True)

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    print("port", server.sockets[0].getsockname()[1], "", flush=True)
    await server.serve_forever()


asyncio.run(main())
