"""What lives between `dragoman serve` and its end: processes, listeners, configurations.

workers      several processes on one port: the parent
worker       one of them, from its fork to its end
process      one process that serves until a signal stops it
server       the two listeners, and what is theirs; drain
generation   what one reading of the configuration has led to: plugins, chain, edge
reload       the configuration, read again while requests go on
ports        addresses that are held before anybody listens
family       what the workers of one start share, in a folder of their own
hangup       whether SIGHUP means a terminal that is gone
"""
