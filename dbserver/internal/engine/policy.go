package engine

import (
	"fmt"
	"path"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A Policy says which tables, columns and functions may be read. The zero
// Policy is all that the role may.
type Policy struct {
	Schemas    []string // those that may be read; empty for all
	DenyTables []string // patterns of schema.table, or of table in any schema
	Functions  []string // allowed besides what an engine allows by itself
	Masks      []Mask   // the first that fits a column counts
}

// A Mask hides columns.
type Mask struct {
	// Columns are patterns of [[schema.]table.]column; * stands for any
	// characters but a dot.
	Columns []string
	With    With
}

// With is how a column is hidden.
type With string

const (
	WithNull    With = "null"    // NULL stands in its place
	WithPartial With = "partial" // its first character, then ***
	WithRefuse  With = "refuse"  // a statement that reads it is refused
)

// Result is the mask for values of such a column in a result.
func (w With) Result() result.Mask {
	if w == WithPartial {
		return result.MaskPartial
	}
	return result.MaskNull
}

// Masking reports whether there are masks at all.
func (p *Policy) Masking() bool { return len(p.Masks) > 0 }

// Restricts reports whether anything that the role may read is forbidden.
func (p *Policy) Restricts() bool {
	return len(p.Schemas) > 0 || len(p.DenyTables) > 0 || len(p.Masks) > 0
}

// Readable reports whether a table may be read.
func (p *Policy) Readable(n Name) bool {
	if len(p.Schemas) > 0 && !fits(p.Schemas, n.Schema) {
		return false
	}
	return !fits(p.DenyTables, n.Schema+"."+n.Table) && !fits(p.DenyTables, n.Table)
}

// MaskOf returns how a column is hidden, "" for not at all. Names are compared
// without regard to case, which hides rather too much than too little.
func (p *Policy) MaskOf(n Name, column string) With {
	for _, m := range p.Masks {
		if fits(m.Columns, n.Schema+"."+n.Table+"."+column) || fits(m.Columns, n.Table+"."+column) || fits(m.Columns, column) {
			return m.With
		}
	}
	return ""
}

// fits reports whether one of the patterns is that of name. Of a pattern each
// part between dots is that of the part of the name in its place.
func fits(patterns []string, name string) bool {
	for _, p := range patterns {
		if Like(p, name) {
			return true
		}
	}
	return false
}

// Like reports whether a name is of a pattern with * and ?, in any case. Neither
// stands for a dot.
func Like(pattern, name string) bool {
	slashes := strings.NewReplacer(".", "/", "/", "\x00")
	ok, err := path.Match(slashes.Replace(strings.ToLower(pattern)), slashes.Replace(strings.ToLower(name)))
	return ok && err == nil
}

// CheckPatterns says which of patterns is none.
func CheckPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.Count(p, ".") > 2 {
			return fmt.Errorf("pattern %q: want names with dots between them, and * for any characters", p)
		}
	}
	return nil
}
