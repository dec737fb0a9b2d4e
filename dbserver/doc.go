// Package dbserver is an MCP database server: four read-only tools behind an
// [rpc.Handler]. What speaks the protocol to clients is put in front of it: a
// pool, a gateway, or a function call.
//
//	list_tables                       the tables and views
//	describe_table  {table_name}      columns, keys, indexes and comments of one
//	read_data       {query, limit?, params?}  one SELECT, its first rows
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
// [Options].MaxRows), its "rows" at most [Options].MaxBytes bytes of JSON.
// Whole rows are left out, and truncated_by says why: "rows" and "bytes" ended
// the reading, "cell" means that all rows are there and some value was cut.
//
// [Options].Timeout ends a statement between two steps of SQLite's machine.
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
//	POOL_EXHAUSTED        no connection came free within 5 s
//	DATABASE_UNREACHABLE  the database cannot be opened or read now
//	CANCELLED             the server was closed meanwhile
//
// An [rpc.Error] says that the call itself is wrong: an unknown method or tool.
package dbserver
