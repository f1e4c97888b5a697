"""The words everybody uses: identifiers, time, signals, errors, ports. Pure: no sockets, no files, no engines."""
