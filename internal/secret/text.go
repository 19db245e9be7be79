package secret

import (
	"net/url"
	"regexp"
	"strings"
)

// hidden stands where a secret was.
const hidden = "***"

// userinfo is what stands before the last @ of an address; a password may hold
// anything but space and quotes.
var userinfo = regexp.MustCompile("([A-Za-z][A-Za-z0-9+.-]*)://([^\\s\"`]*)@")

// assignment is a password as a keyword of a database address, or as a parameter
// of its URL.
var assignment = regexp.MustCompile(`(?i)\b((?:ssl)?password|token)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&"` + "`" + `]+)`)

// Redact takes passwords and tokens out of addresses in a text.
func Redact(text string) string {
	text = userinfo.ReplaceAllStringFunc(text, func(address string) string {
		scheme, user, _ := strings.Cut(strings.TrimSuffix(address, "@"), "://")
		name, _, found := strings.Cut(user, ":")
		switch {
		case !strings.HasPrefix(strings.ToLower(scheme), "postgres"):
			name = hidden // a user alone may be a token
		case found:
			name += ":" + hidden
		}
		return scheme + "://" + name + "@"
	})
	return assignment.ReplaceAllString(text, "${1}${2}"+hidden)
}

// InDatabaseURL says whether the address of a database, as a URL or as keywords,
// holds a password. What cannot be understood holds one if it looks so.
func InDatabaseURL(text string) bool {
	if assignment.MatchString(text) {
		return true
	}
	_, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		return false
	}
	if before, query, found := strings.Cut(rest, "?"); found && strings.Contains(query, "=") {
		rest = before
		values, err := url.ParseQuery(query) // names may be written in percents
		if err != nil || values.Get("password") != "" || values.Get("sslpassword") != "" {
			return true
		}
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return false
	}
	_, password, _ := strings.Cut(rest[:at], ":")
	return password != ""
}

// InNATSURL says whether one of the comma-separated addresses of NATS servers
// holds a password or a token: all that stands before an @ may be one.
func InNATSURL(list string) bool { return strings.Contains(list, "@") }
