"""Made from an OpenRPC document: stubs, a C header, reference pages, compatibility checks."""
