// Package natstest runs NATS servers with JetStream for the tests, each in a
// process of its own, so that it can be killed and its disk put back to an
// earlier state.
//
// The process is the test program itself, which runs the server's library: a
// package that uses Start has a test for it,
//
//	func TestNATSServer(t *testing.T) { natstest.Serve(t) }
//
// which does nothing in an ordinary run. The server listens on 127.0.0.1 and
// syncs its files when NATS does by default, every two minutes, not on each
// message.
package natstest
