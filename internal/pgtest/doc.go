// Package pgtest runs throw-away PostgreSQL servers for the tests and the demo.
//
// A server is a fresh cluster on 127.0.0.1 with logical replication switched
// on, trusting every local connection, in a directory of its own. It is a real
// server started from the installed programs: initdb and postgres are looked
// for in $PG_BIN, in $PATH, and in /usr/lib/postgresql/*/bin (the newest
// version, at least 15). If they are missing a test fails, it does not skip.
//
// Started by root, the server runs as the user postgres, or nobody, because
// PostgreSQL refuses to run as root.
//
// What it promises:
//
//   - a server does not outlive the process that started it: on Linux the
//     kernel ends it with that process, however the process ends;
//   - Stop, Kill and Close return when every process of the server is gone, not
//     only the postmaster, so that a restart never meets a survivor;
//   - a port stays the server's own over Restart, so that URLs stay valid;
//   - directories that killed processes left behind are removed by later ones.
//
// What it does not: durability. fsync is off unless Config.Settings says
// otherwise, so a crash of the machine (not of the server) may corrupt a
// cluster.
//
// Every cluster comes from its own initdb rather than from a cached copy. A
// copy would be quicker, but copies share one system identifier, and what
// compares system identifiers could not be tested with them.
//
// The usual ways in are New, for a test that stops, kills or configures its
// server, and Shared, for tests that only need a database of their own.
package pgtest
