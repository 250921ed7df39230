"""Compression: long chats at a fraction of the price, with nothing lost that the user ordered."""
