"""The peer-to-peer network over py-libp2p.

`network.Libp2pNetwork` implements the port PeerNetwork, `identity.Identity` the port Signer.
"""

import warnings

with warnings.catch_warnings():
    # libp2p 0.8.1 imports transports that we never use, and with them a module that websockets has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import libp2p  # noqa: F401
