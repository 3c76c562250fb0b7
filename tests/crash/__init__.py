"""Crash tests: real gateways, real stores, and a driver that harms them while clients send.

`faults` names the places of the write path at which a gateway dies, `disk` what a power cut leaves,
`sabotage` what must make these tests fail, `launcher` starts a gateway with any of them. `lane` is one
gateway with its `clients`, `lives` how it ends again and again, `weather` what befalls its Elasticsearch,
`comparison` what is found in the stores at the end; `driver` runs lanes. ``python -m tests.crash.soak``
does it for an hour.
"""
