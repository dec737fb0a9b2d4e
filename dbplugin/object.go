package dbplugin

import (
	"encoding/json"
	"strings"
)

// An object is a JSON object or a Python dict, with its members in their order:
// that of the columns, where it is a row. Names may repeat, as those of columns
// may.
type object []member

type member struct {
	name  string
	value any // nil, bool, string, json.Number, []byte, []any or object
}

// plain returns a value as Go has it: objects as maps.
func plain(v any) any {
	switch v := v.(type) {
	case object:
		m := make(map[string]any, len(v))
		for _, member := range v {
			m[member.name] = plain(member.value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = plain(e)
		}
		return list
	}
	return v
}

// get returns the first member, by its place in names, that is there and not
// null; nil for none.
func (o object) get(names ...string) any {
	for _, name := range names {
		for _, m := range o {
			if m.name == name && m.value != nil {
				return m.value
			}
		}
	}
	return nil
}

// text is get for a string; "" for none.
func (o object) text(names ...string) string {
	s, _ := o.get(names...).(string)
	return s
}

// list is get for a list; nil for none.
func (o object) list(names ...string) []any {
	list, _ := o.get(names...).([]any)
	return list
}

// integer is get for an integer; nil for none.
func (o object) integer(names ...string) *int64 {
	number, _ := o.get(names...).(json.Number)
	n, err := number.Int64()
	if err != nil {
		return nil
	}
	return &n
}

// flag is get for what is true or false, as SQL's catalogs have it, too: 1 and
// 0, YES and NO.
func (o object) flag(names ...string) (is, told bool) {
	switch v := o.get(names...).(type) {
	case bool:
		return v, true
	case json.Number:
		return v != "0", true
	case string:
		return strings.EqualFold(v, "yes"), strings.EqualFold(v, "yes") || strings.EqualFold(v, "no")
	}
	return false, false
}

// texts is get for a list of strings, or a string that is one with commas.
func (o object) texts(names ...string) []string {
	var all []string
	switch v := o.get(names...).(type) {
	case string:
		for s := range strings.SplitSeq(v, ",") {
			all = append(all, strings.TrimSpace(s))
		}
	case []any:
		for _, e := range v {
			s, _ := e.(string) // an expression of an index is null
			all = append(all, s)
		}
	}
	return all
}

// objects are the elements of a list that are objects.
func objects(list []any) []object {
	var all []object
	for _, e := range list {
		if o, ok := e.(object); ok {
			all = append(all, o)
		}
	}
	return all
}
