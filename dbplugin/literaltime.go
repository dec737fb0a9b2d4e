package dbplugin

import (
	"encoding/json"
	"fmt"
	"strings"
)

// time returns a date, datetime or time of Python's datetime as RFC 3339 has
// it, and false if it is none that can be told so.
func (e expression) time(kind string) (string, bool) {
	var parts [7]int64
	given := parts[:]
	least := 3
	switch kind {
	case "date":
		given = parts[:3]
	case "time":
		given, least = parts[3:], 2
	}
	if len(e.values) < least || len(e.values) > len(given) {
		return "", false
	}
	for i, v := range e.values {
		var ok bool
		if given[i], ok = integer(v); !ok {
			return "", false
		}
	}
	zone := ""
	for _, v := range e.named { // tzinfo; fold, which says which of two equal local times, cannot be told
		z, _ := v.(expression)
		var ok bool
		if zone, ok = z.zone(); !ok {
			return "", false
		}
	}
	date := fmt.Sprintf("%04d-%02d-%02d", parts[0], parts[1], parts[2])
	clock := fmt.Sprintf("%02d:%02d:%02d", parts[3], parts[4], parts[5])
	if parts[6] != 0 {
		clock += strings.TrimRight(fmt.Sprintf(".%06d", parts[6]), "0")
	}
	switch kind {
	case "date":
		return date, true
	case "time":
		return clock + zone, true
	}
	return date + "T" + clock + zone, true
}

// zone returns a tzinfo as it stands behind a time.
func (e expression) zone() (string, bool) {
	switch e.name {
	case "datetime.timezone.utc":
		return "Z", true
	case "zoneinfo.ZoneInfo":
		switch key, _ := e.named["key"].(string); key {
		case "":
			return "", false
		case "UTC", "Etc/UTC":
			return "Z", true
		default: // RFC 9557
			return "[" + key + "]", true
		}
	case "datetime.timezone":
		delta, ok := e.first().(expression)
		if !ok || delta.name != "datetime.timedelta" || delta.values != nil {
			return "", false
		}
		var seconds int64
		for name, v := range delta.named {
			n, ok := integer(v)
			switch {
			case ok && name == "days":
				seconds += n * 86400
			case ok && name == "seconds":
				seconds += n
			default:
				return "", false
			}
		}
		if seconds%60 != 0 {
			return "", false
		}
		sign := '+'
		if seconds < 0 {
			sign, seconds = '-', -seconds
		}
		return fmt.Sprintf("%c%02d:%02d", sign, seconds/3600, seconds/60%60), true
	}
	return "", false
}

func integer(v any) (int64, bool) {
	number, _ := v.(json.Number)
	n, err := number.Int64()
	return n, err == nil
}
