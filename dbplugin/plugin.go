package dbplugin

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/mcpool-dev/mcpool/rpc"
)

// DefaultLimit is how many rows a query returns at most if nothing else says,
// and LimitVariable the environment variable that says otherwise.
const (
	DefaultLimit  = 100
	LimitVariable = "DEFAULT_QUERY_LIMIT"
)

// Options change what a plugin does.
type Options struct {
	// DefaultLimit is the limit of ReadData where the caller gives none, in
	// rows. Zero means that of the environment variable DEFAULT_QUERY_LIMIT,
	// and without it the constant DefaultLimit.
	DefaultLimit int
	// Caller is on whose behalf the calls are made; the zero Caller is the
	// handler's own principal.
	Caller rpc.Caller
	// Server is the name of the server behind a gateway that serves several:
	// NAME where its tools are called NAME__TOOL. Empty means the only one that
	// is a database server.
	Server string
	// Database is the database that is meant, where the server has several: the
	// database argument of mcpool, the id of a source of DBHub, the project_id
	// of Supabase. Empty means the only one, and for functions that the model
	// chooses, where the server says among which.
	Database string
	// Profile says which tools the server has and how they are called. Nil
	// means that it is found out.
	Profile *Profile
	// Write has Functions include one that writes, where the server has it.
	Write bool
}

// A Plugin calls the tools of one database server. Its methods can be called
// from any goroutine. They block until the handler answers, the first one also
// until it has listed the tools; ctx cancels the call. Their errors are
//
//   - a [*ToolError] if the tool says that it failed,
//   - an [*rpc.Error] if the server refuses the call,
//   - [ErrUnsupported] if the server has no tool for it,
//   - what the handler returns if there was no answer,
//   - one that names the servers or databases there are, if Options do not say
//     which of several is meant,
//   - and one that says what does not fit if the answer has another form; the
//     Raw and Text that came are then returned with it.
//
// The list of tools is asked for once, and again when the server does not know
// a tool that it had; the call, which then did not run, is made once more.
type Plugin struct {
	handler rpc.Handler
	options Options
	tools   catalog
}

// New returns a plugin on a handler. Nil options are the defaults. The error
// is about options that make no sense; nothing is called yet.
func New(handler rpc.Handler, options *Options) (*Plugin, error) {
	if handler == nil {
		return nil, errors.New("dbplugin: a handler is needed")
	}
	p := &Plugin{handler: handler, tools: newCatalog()}
	if options != nil {
		p.options = *options
	}
	if p.options.DefaultLimit < 0 {
		return nil, fmt.Errorf("dbplugin: DefaultLimit is %d: want a number of rows, 1 or more, or 0 for the default", p.options.DefaultLimit)
	}
	if p.options.DefaultLimit == 0 {
		var err error
		if p.options.DefaultLimit, err = environmentLimit(); err != nil {
			return nil, err
		}
	}
	if profile := p.options.Profile; profile != nil {
		if err := profile.check(); err != nil {
			return nil, err
		}
		if p.options.Server != "" {
			return nil, errors.New("dbplugin: Server is for tools that are found out: Profile names them as they are")
		}
		p.tools.sites = []site{{Profile: *profile}}
	}
	return p, nil
}

func environmentLimit() (int, error) {
	value, ok := os.LookupEnv(LimitVariable)
	if !ok || value == "" {
		return DefaultLimit, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("dbplugin: %s is %q: want a number of rows, 1 or more", LimitVariable, value)
	}
	return n, nil
}
