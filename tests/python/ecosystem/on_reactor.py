"""A pytest plugin for Twisted's tests: the reactor is the one that runs on asyncio's loops."""

from twisted.internet import asyncioreactor

asyncioreactor.install()
