// Package mysql is MySQL and MariaDB for the database server.
//
// # Read-only
//
// Neither server has a read-only session that SQL could not end, so several
// things hold together, and each is tested against the others:
//
//   - The account. What SHOW GRANTS tells is read on each new connection, and a
//     role that may do more than read is refused. It is the boundary; the rest
//     is depth.
//   - One statement a call: it is sent by itself in the prepared protocol, which
//     takes no second one.
//   - A guard. The statement is parsed, and runs only if all that it consists of
//     is known to read: an allow-list of syntax and one of functions. What the
//     parser does not understand is refused. Comments are taken out before, so
//     that none can mean one thing to the parser and another to the server.
//   - The session is read-only (transaction_read_only), set anew for each call,
//     and the statement runs in a read-only transaction that is rolled back.
//   - The session is reset behind each call (COM_RESET_CONNECTION): transaction,
//     variables, temporary tables, locks and role are gone for the next caller.
//
// # Values
//
// The session's time zone is UTC, if the DSN names no other: values of the type
// TIMESTAMP are told with Z, and NOW() is in UTC. Values of DATETIME have no zone.
// Its sql_mode is fixed, so that quotes and backslashes mean the same everywhere.
// A row may have 16 MiB; of one that is larger no more than that is read.
//
// # Not run
//
// Against MySQL itself this package has not been run, only against MariaDB
// 10.11. What differs is chosen by what the server says it is:
// max_execution_time for max_statement_time, transaction_read_only for
// tx_read_only, SHOW GRANTS … USING, and the error numbers of MySQL. The tests
// run against a server that MCPOOL_TEST_MYSQL names, too (a DSN of an account
// that may create databases and accounts).
package mysql
