package transport

import (
	"context"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

// A blotter keeps the secrets that a child was started with out of what we
// say: servers write their settings to stderr, and their credentials into
// errors.
//
// Secrets are, if they have secretLength bytes or more: each line of each value
// of Command.Env; the value of an argument name=value, with dashes before the
// name or without; the argument after a flag whose name says that it is a
// secret, and the words of it, for "Authorization: Bearer …"; and the password
// in any of these, and in any other argument, that is a URL. They are found as
// they stand: a server that encodes a secret before it writes it discloses it.
type blotter struct {
	hidden []string // some of them too short to be secrets
	*strings.Replacer
}

var (
	namedValue = regexp.MustCompile(`^-{0,2}[A-Za-z][A-Za-z0-9_.-]*=(?s:(.*))$`)
	secretFlag = regexp.MustCompile(`(?i)^-{1,2}[a-z0-9_.-]*(token|key|secret|passw|pwd|auth|credential|header)[a-z0-9_.-]*$`)
)

func newBlotter(env, arguments []string) *blotter {
	b := &blotter{}
	for _, variable := range env {
		_, value, _ := strings.Cut(variable, "=")
		b.hide(value)
	}
	for i, argument := range arguments {
		b.hidePassword(argument)
		if named := namedValue.FindStringSubmatch(argument); named != nil {
			b.hide(named[1])
		}
		if i > 0 && secretFlag.MatchString(arguments[i-1]) {
			b.hide(argument)
			for _, word := range strings.FieldsFunc(argument, func(r rune) bool { return r == ' ' || r == ':' }) {
				b.hide(word)
			}
		}
	}
	b.Replacer = replacer(b.hidden)
	return b
}

// hide makes a value a secret. What a child says is looked at line by line, and
// runs of space in it are shown as one.
func (b *blotter) hide(value string) {
	b.hidePassword(value)
	for line := range strings.Lines(value) {
		b.hidden = append(b.hidden, strings.TrimSpace(line), strings.Join(strings.Fields(line), " "))
	}
}

func (b *blotter) hidePassword(value string) {
	u, err := url.Parse(value)
	if err != nil {
		return
	}
	if password, ok := u.User.Password(); ok {
		_, escaped, _ := strings.Cut(u.User.String(), ":")
		b.hidden = append(b.hidden, password, escaped)
	}
}

// text returns a text without secrets, nor the beginning of one where the text
// was cut, which "…" says.
func (b *blotter) text(said string) string {
	said = b.Replace(said)
	pieces := strings.Split(said, "…")
	for i := range pieces[:len(pieces)-1] {
		pieces[i] = b.withoutBeginning(pieces[i])
	}
	return strings.Join(pieces, "…")
}

// withoutBeginning returns a text that was cut, without the beginning of a
// secret at its end. So much of one as secretLength would not make a secret.
func (b *blotter) withoutBeginning(said string) string {
	for _, secret := range b.hidden {
		for n := min(len(secret)-1, len(said)); n >= secretLength/2; n-- {
			if strings.HasSuffix(said, secret[:n]) {
				return said[:len(said)-n] + "***"
			}
		}
	}
	return said
}

// error returns an error whose text has no secrets, and which is err otherwise.
func (b *blotter) error(err error) error {
	if err == nil {
		return nil
	}
	if text := b.text(err.Error()); text != err.Error() {
		return &blotted{text, err}
	}
	return err
}

type blotted struct {
	text string
	error
}

func (e *blotted) Error() string { return e.text }
func (e *blotted) Unwrap() error { return e.error }

// logger returns a log that has no secrets in the values of attributes.
func (b *blotter) logger(log *slog.Logger) *slog.Logger {
	return slog.New(blottedLog{log.Handler(), b})
}

type blottedLog struct {
	slog.Handler
	blot *blotter
}

func (l blottedLog) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Any().(type) {
		case string:
			a.Value = slog.StringValue(l.blot.text(v))
		case error:
			a.Value = slog.AnyValue(l.blot.error(v))
		}
		clean.AddAttrs(a)
		return true
	})
	return l.Handler.Handle(ctx, clean)
}

func (l blottedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return blottedLog{l.Handler.WithAttrs(attrs), l.blot}
}

func (l blottedLog) WithGroup(name string) slog.Handler {
	return blottedLog{l.Handler.WithGroup(name), l.blot}
}
