"""moto as Holdfast's service layer: running its requests, and saving and restoring its state.

dispatch        an AWS request straight to moto's response class
classification  which operations change state
backends        where moto keeps state, and the gate in front of it
state           saving and loading it, service by service: the snapshotter's Source
pickling        one cut's dumps: what is a definition, what a reference
links           identity of objects that several services hold
kinds           what a class of moto's is to a dump
reducers        how what moto keeps is written and read back
outside         state that moto keeps outside its backends
timers          SWF's waiting threads
allowlist       what an image may name, as data
"""
