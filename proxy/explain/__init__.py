"""What each plugin would do with a request, and why: `dragoman explain`.

witness    the chain, with somebody watching each plugin
run        a request on its way through it; nothing is sent
diff       what became of the messages and of the other fields
account    what there is to tell
report     told to people
document   told to programs
command    from a command line to all this
"""
