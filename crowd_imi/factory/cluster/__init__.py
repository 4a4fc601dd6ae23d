"""Work that many devices and machines share.

    crew        deals pieces of work to workers, and those of a lost worker to others
    bench       what a worker has at hand
    processes   a crew of processes on this machine, one for each device
    on_ray      a crew on a Ray cluster; the only module that knows Ray

What pieces there are, they say themselves: ``factory.shards`` and ``factory.groups``.
"""
