package config

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// didYouMean returns "; did you mean …?" with the known name nearest to name,
// and where none is near, what names there are.
func didYouMean(name string, known []string) string {
	const most = 64 // bytes: longer names are no slips of the pen
	typed := strings.ToLower(name[:min(len(name), most)])
	best, least := "", len(name)/3+2 // more than a third wrong is another word
	for _, k := range known {
		if d := levenshtein.ComputeDistance(typed, strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	return "; there are " + strings.Join(known, ", ")
}

// and lists names as a sentence does.
func and(names []string) string {
	names = slices.Clone(names)
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// or joins words as in "a, b or c".
func or(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
