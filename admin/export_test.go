package admin

// Routes returns the methods and paths of the API, as an OpenAPI file has them.
func Routes() map[string]string {
	all := map[string]string{}
	for _, r := range routes {
		all[apiPath+r.path] = r.method
	}
	return all
}

// HistoryMost is how many samples are kept.
const HistoryMost = historyMost
