// Package dbplugin gives agent programs the tools of an MCP database server as
// Go functions, and as functions for a language model to call.
//
// It speaks over any [rpc.Handler], such as a pool of connections, to any
// database server: it asks for the list of tools at the first call, and picks
// the [Profile] that fits, which says what the tools are called, how they take
// their arguments and how they answer. Opening, sharing and repairing of
// connections is the handler's business; a plugin holds nothing to close.
//
//	plugin, err := dbplugin.New(pool, nil)
//	result, err := plugin.ReadData(ctx, "SELECT name FROM products ORDER BY 1", nil)
//
// For a model, [Plugin.Functions] returns definitions to put into a request
// and to call with the arguments that come back.
//
// # Servers
//
// What each can do; the rest is [ErrUnsupported]. Any other server is described
// by [Options].Profile.
//
//	                        tables  describe  read  params  pages  explain  info  write
//	mcpool                  yes     yes       yes   yes     yes    yes      yes   yes
//	list_tables, describe_table, read_data, database_info of other servers
//	                        yes     yes       yes   -       -      -        yes   -
//	MCP Toolbox, PostgreSQL yes     yes       yes   -       -      yes      yes   -
//	MCP Toolbox, MySQL      yes     yes       yes   -       -      yes      -     -
//	MCP Toolbox, others     yes     yes       yes   -       -      -        -     -
//	DBHub                   yes     yes       yes   -       -      explain_sql is opt-in there
//	Postgres MCP Pro        yes     yes       yes   -       -      yes      -     -
//	Supabase                yes     yes       yes   -       -      -        -     -
//	MssqlMcp (Azure sample) yes     yes       yes   -       -      -        -     -
//	reference SQLite        yes     yes       yes   -       -      -        -     -
//	reference PostgreSQL    -       -         yes   -       -      -        -     -
//
// Supabase and MssqlMcp were not run, one being a service and the other needing
// SQL Server: what is known of both is from their sources. MCP Toolbox, DBHub,
// Postgres MCP Pro and the reference servers were run, and what they answered is
// replayed by the tests.
//
// Behind a gateway that serves several servers, tools are called NAME__TOOL;
// DBHub with several sources calls them TOOL_ID. Both are understood, see
// Options.Server and Options.Database.
//
// # What holds, and what does not
//
// A plugin sends SQL as it is. That a statement only reads is the server's
// business: many of these servers run whatever they are sent. Definitions for a
// model say "read-only" only where the server's tool does (readOnlyHint).
//
// Where a server takes no limit, the whole result crosses the wire, and the
// plugin keeps the first rows and says that it did. Nor does it add a LIMIT to
// the statement: that would need a parser of each dialect to be right.
//
// # Values
//
// A cell is nil, a bool, a string, a [json.Number], or what a server makes of
// other types, such as a map. Numbers keep every digit that the server sent. Of
// answers that are Python literals (reference SQLite, Postgres MCP Pro),
// Decimal is a json.Number, bytes are []byte, dates and times are RFC 3339, with
// the zone in brackets behind a local time (RFC 9557) where it is not a fixed
// one, NaN and infinities are "NaN", "Infinity" and "-Infinity", and whatever
// else is no literal is its text. Some servers have lost digits before they
// answer: those in JavaScript round integers inside JSON columns.
package dbplugin
