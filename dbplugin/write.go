package dbplugin

import (
	"context"
	"errors"
)

// A WritePreview is what a statement that writes would do. Nothing of it has
// happened yet.
type WritePreview struct {
	Answer
	Affected int64  // rows
	Token    string // with which the server commits this statement and no other, for a time of its own; "" where nothing would change

	plugin *Plugin
	query  string
	params any
}

// A Written is what a statement that writes has done.
type Written struct {
	Answer
	Affected int64 // rows
}

// PreviewWrite has the server run a statement that writes in a transaction
// that it rolls back, and say how many rows it would affect. Params are as in
// [ReadOptions], nil for none. Servers that write without a preview are
// [ErrUnsupported].
func (p *Plugin) PreviewWrite(ctx context.Context, query string, params any) (*WritePreview, error) {
	w := &WritePreview{plugin: p, query: query, params: params}
	said, err := p.write(ctx, query, params, "", &w.Answer)
	if err != nil {
		return w, err
	}
	w.Token = said.text("token")
	if w.Affected, err = affected(said, &w.Answer); err == nil && w.Token == "" && w.Affected > 0 {
		err = anotherForm(w.from.site.WriteData.Name, errors.New("a preview has no token"))
	}
	return w, err
}

// Commit has the server run the statement of the preview, and keep what it
// does. Where nothing would change nothing is run. After an error that is no
// [*ToolError] it may have.
func (w *WritePreview) Commit(ctx context.Context) (Written, error) {
	var done Written
	if w.Token == "" {
		return done, nil
	}
	said, err := w.plugin.write(ctx, w.query, w.params, w.Token, &done.Answer)
	if err == nil {
		done.Affected, err = affected(said, &done.Answer)
	}
	return done, err
}

func (p *Plugin) write(ctx context.Context, query string, params any, token string, answer *Answer) (object, error) {
	var err error
	if *answer, err = p.call(ctx, writeData, "", arguments{"query": query, "params": params, "token": token}); err != nil {
		return nil, err
	}
	v, err := answer.value(answer.from.site.WriteData.Name)
	said, _ := v.(object)
	return said, err
}

func affected(said object, answer *Answer) (int64, error) {
	n := said.integer("affected")
	if n == nil {
		return 0, anotherForm(answer.from.site.WriteData.Name, errors.New("it does not say how many rows are affected"))
	}
	return *n, nil
}
