// Package dbserver is an MCP database server: tools behind an [rpc.Handler].
// What speaks the protocol to clients is put in front of it: a pool, a gateway,
// or a function call.
//
//	list_tables     {pattern?, schema?, kinds?, detail?, limit?, cursor?}
//	describe_table  {table_name | table_names, sample_rows?}
//	read_data       {query, params?, limit?, timeout_ms?, shape?}
//	fetch_rows      {handle, limit?, shape?}   the rows behind those of read_data
//	explain_query   {query, params?}
//	database_info   {}                         engine, limits, pool, what makes it read-only
//	write_data      {query, params?, token?}   only where a database is opened for writing
//
// With several databases each tool takes the argument database. Tools of one's
// own are statements with named parameters, see [Tool]. What there is to see is
// also there as resources, db://DATABASE/….
//
// Databases are SQLite files, or servers of PostgreSQL, MySQL, MariaDB or SQL
// Server. Each is opened by the first call that needs it; one that is down
// fails its own calls, and is well again when it is back. SQL Server and MySQL
// 8 have not been run against: only what can be shown without one is.
//
// # Read-only
//
// That only reading happens is enforced in lines behind one another, each by
// the engine's own means where it has some; the documentation of each engine's
// package says which, and database_info what holds for a database, with a
// statement that writes really tried:
//
//   - the role of the connection is looked at when it is opened, and refused if
//     it may do more than read ([Database].AllowUnsafeRole);
//   - a statement goes in a form of the protocol that carries one;
//   - the engine is told that the session or transaction only reads;
//   - the engine, or its grammar, says what a statement would do before it runs;
//   - whatever happened is rolled back, and the session is clean for the next;
//   - rows, bytes, time, values and memory are bounded.
//
// The role is the boundary, where an engine has roles; the rest is depth.
// The statements that were tried on it are in testdata/corpus, for anyone to
// add to.
//
// # Values
//
// Rows are arrays in the order of columns, which may have equal names; or
// columns, or objects, as shape says. Values keep what they are:
//
//	NULL      null
//	integers  a number; beyond ±2^53, where readers of JSON round, a string
//	floats    a number with a fraction or exponent; "NaN", "Infinity", "-Infinity"
//	decimals  a string with all of their digits
//	booleans  true and false
//	texts     a string; after [Database].MaxCellBytes cut at a character and ended
//	          with …; bytes that are not UTF-8 become U+FFFD
//	bytes     {"$bytes": length, "base64": the first 256}
//	times     RFC 3339, with a zone where the type has one; intervals ISO 8601
//	JSON      as it is, if all of its numbers are exact
//
// A column's type is the one that the engine has for it; in SQLite that of an
// expression is the class of its first value that is not NULL.
//
// The text of a result says the same for a reader without structuredContent:
// tab-separated values under a header, with \t, \n, \r and \\ for these
// characters and \N for NULL (the text format of PostgreSQL's COPY), bytes as
// their length. Since it is data, one line before it says not to obey it.
//
// # Limits
//
// An answer has at most limit rows ([DefaultLimit], and never more than
// [Database].MaxRows), its "rows" at most [Database].MaxBytes bytes of JSON.
// Whole rows are left out, and truncated_by says why: "rows" and "bytes" ended
// the page, "cell" means that all rows are there and some value was cut.
//
// Values are bound to placeholders, and never made part of a statement: those of
// the engine with params as an array, or :name with params as an object.
//
// A statement ends in the database, too, when its time is over, its call is
// cancelled or its client is gone.
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
// # Writing
//
// write_data runs a statement and rolls it back, which tells how many rows it
// would change. Then a person is asked, if the client can do that; otherwise a
// token comes back, and the same call with it commits, once, within two
// minutes, and no more rows than the preview affected.
//
// # Errors
//
// What the caller of a tool can correct is a result with isError, whose text
// says what to do next and whose structuredContent is {"error": {code, layer,
// message, engine_code, position, did_you_mean, retryable, next}}. The message
// is the engine's own where it has one, without credentials. Codes:
//
//	INVALID_ARGUMENT       the arguments do not fit the input schema or the placeholders
//	UNKNOWN_DATABASE       no database has that name
//	UNKNOWN_OBJECT         no such table, column or function; did_you_mean has near names
//	AMBIGUOUS_OBJECT       several schemas have a table of that name
//	SYNTAX_ERROR           the statement does not compile
//	READ_ONLY_VIOLATION    the statement would do more than read
//	MULTI_STATEMENT        the text has more than one statement
//	FUNCTION_DENIED        it calls a function that is not allowed
//	ACCESS_DENIED          the role, or the configuration, does not let it be read
//	COLUMN_MASKED          a use of a hidden column that would show it
//	ROLE_UNSAFE            the database's role may do more than read
//	STATEMENT_TIMEOUT      it ran too long
//	LOCK_TIMEOUT           it waited too long for a lock
//	RESULT_TOO_LARGE       a value, a row or what it needs is too large
//	ENGINE_ERROR           it failed while it ran, such as on malformed JSON
//	POOL_EXHAUSTED         no connection came free in time
//	CLIENT_LIMIT           the caller has too many calls at once
//	DATABASE_UNREACHABLE   the database cannot be opened or read now
//	AUTH_FAILED            the database refused the credentials
//	TLS_FAILED             no protected connection could be made
//	HANDLE_EXPIRED         the rows are not kept any more, or not here
//	CONFIRMATION_REQUIRED  the statement was not confirmed, or its token is not good
//	AFFECTED_LIMIT         it would change more rows than it may
//	CANCELLED              the server was closed meanwhile
//
// An [rpc.Error] says that the call itself is wrong: an unknown method or tool.
package dbserver
