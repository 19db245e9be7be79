// Package workload makes the database of a travel application and the life in
// it: a schema, a history of any size, and live traffic. Tests and the demo
// follow it as they would a real source.
//
// Everything is drawn from a seed. Two histories populated with the same Config
// hold the same rows, byte for byte. Live traffic decides the same steps in the
// same order on each connection; its moments are real ones, and with several
// connections the order between them is the server's.
//
// The numbers are those of a recommender in production: about ten
// recommendations a user and week, three fifths of them never looked at, a
// tenth clicked, a few per cent booked or rejected; a few destinations take
// most of the attention; updates that change no feature outnumber those that
// do. A share of the values is dirt, of every kind that such databases hold:
// see DirtKinds.
//
// The columns that must never leave a database are filled with recognisable
// content, so that a test can search for it: see Secrets.
//
// InstallAudit adds triggers that write every change into audit.history, from
// which the state as of any transaction can be replayed: the oracle for a
// captured history.
//
// Package bookshop, below this one, is a small application with another shape.
package workload
