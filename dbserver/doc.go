// Package dbserver is an MCP database server: read-only tools behind an
// [rpc.Handler]. What speaks the protocol to clients is put in front of it: a
// pool, a gateway, or a function call.
//
//	list_tables                       the tables and views
//	describe_table  {table_name}      columns, keys, indexes and comments of one
//	read_data       {query, limit?, params?}  one SELECT, its first rows
//	fetch_rows      {handle, limit?}  the rows behind those
//	explain_query   {query, params?}  how a statement would run
//	database_info                     engine, limits, pool, what enforces read-only
//
// The engine is SQLite. Nothing is opened before the first call.
//
// # Read-only
//
// That only reading happens is enforced by SQLite, not by looking at the text
// of a statement. The first line is its authorizer
// (https://www.sqlite.org/c3ref/set_authorizer.html), which is asked about
// everything a statement would do while it is compiled: an allow-list of
// reading, pure functions and introspecting pragmas; all else is denied. Behind
// it stand a connection opened with mode=ro, PRAGMA query_only, the defensive
// mode, and a limit of no attached databases. A second statement in the text is
// refused, so that a result always belongs to the statement that was meant.
//
// # Values
//
// Rows are arrays in the order of columns, which may have equal names. Values
// keep what they are:
//
//	NULL      null
//	INTEGER   a number; beyond ±2^53, where readers of JSON round, a string
//	REAL      a number with a fraction or exponent; "Infinity", "-Infinity"
//	TEXT      a string; after 4096 bytes cut at a character and ended with …;
//	          bytes that are not UTF-8 become U+FFFD
//	BLOB      {"$bytes": length, "base64": its first 256 bytes}
//
// A column's type is the one it was declared with; that of an expression is the
// class of its first value that is not NULL, and ANY if there is none.
//
// The text of a result says the same for a reader without structuredContent:
// tab-separated values under a header, with \t, \n, \r and \\ for these
// characters and \N for NULL (the text format of PostgreSQL's COPY), a blob as
// its length. Since it is data, one line before it says not to obey it.
//
// # Limits
//
// An answer has at most limit rows ([DefaultLimit], and never more than
// [Database].MaxRows), its "rows" at most [Database].MaxBytes bytes of JSON.
// Whole rows are left out, and truncated_by says why: "rows" and "bytes" ended
// the reading, "cell" means that all rows are there and some value was cut.
//
// Values are bound to placeholders, and never made part of a statement: those of
// the engine with params as an array, or :name with params as an object.
//
// # Results that go on
//
// A full page is answered at once, with a handle. The statement yields up to
// [Database].SpoolRows more rows, for 5 s at most and never longer than half of
// AcquireTimeout, since others wait for its connection; then the connection is
// free. No statement is run again, and no connection is held between calls.
//
// fetch_rows returns what is behind a handle, in pages as read_data does, and
// waits for rows that are not there yet. Each answer has the next handle, and any
// handle gives the same rows again until it expires, [Options].HandleTTL after it
// was given. When all is read "complete" says whether that is all there was;
// truncated_by can be "time" or "error" then, besides.
//
// Rows are kept in memory up to 32 KiB of a result, and beyond that in a file
// that only this user can read, in a folder of its own under [os.TempDir]. All
// results together have 256 MiB and are 256 at most, those of one principal a
// quarter of that; the oldest make room. A handle is sealed for its principal and
// says which server has the rows.
//
// # Turns
//
// Calls of one principal run [Options].MaxCallsPerPrincipal at a time on each
// database, and more of them wait, as do those that find all connections in use.
// Principals that wait take turns. Who waits longer than AcquireTimeout gets
// CLIENT_LIMIT or POOL_EXHAUSTED. database_info and fetch_rows take no turn.
//
// # Resources
//
// What tools tell can be read as resources, which are JSON like their
// structuredContent and bounded like it; a slash in a name is %2F.
//
//	db://DATABASE/schema          list_tables
//	db://DATABASE/table/NAME      describe_table
//	db://DATABASE/results/HANDLE  fetch_rows
//	db://DATABASE/status          database_info
//
// # Time and size
//
// [Database].Timeout ends a statement between two steps of SQLite's machine.
// One step can be one call of a function, which nothing interrupts. Values are
// therefore limited to 1,000,000 bytes, as SQLite advises for SQL from
// strangers (https://www.sqlite.org/security.html), and results to 256
// columns. What remains, measured on values of that size: instr() and replace()
// can take 6 s, json_patch() 20 s, and trim() with a set of as many characters
// half an hour. Large sorts go to temporary files, whose size the timeout alone
// limits.
//
// # Errors
//
// What the caller of a tool can correct is a result with isError, whose text
// says what to do next and whose structuredContent is {"error": {code, layer,
// message, retryable, next, ...}}. Codes:
//
//	INVALID_ARGUMENT      the arguments do not fit the input schema or the placeholders
//	SYNTAX_ERROR          the statement does not compile
//	UNKNOWN_OBJECT        no such table, column or function; did_you_mean has near names
//	READ_ONLY_VIOLATION   the statement would do more than read
//	FUNCTION_DENIED       it calls a function that is not allowed
//	MULTI_STATEMENT       the text has more than one statement
//	STATEMENT_TIMEOUT     it ran longer than Options.Timeout
//	RESULT_TOO_LARGE      a value is larger than 1,000,000 bytes, a result wider than 256
//	                      columns, or memory ran out
//	ENGINE_ERROR          it failed while it ran, such as on malformed JSON
//	POOL_EXHAUSTED        no connection came free within AcquireTimeout
//	CLIENT_LIMIT          nor did an earlier call of the same principal end
//	HANDLE_EXPIRED        the rows are not kept any more, not here, or not for this caller
//	DATABASE_UNREACHABLE  the database cannot be opened or read now
//	CANCELLED             the server was closed meanwhile
//
// An [rpc.Error] says that the call itself is wrong: an unknown method or tool.
package dbserver
