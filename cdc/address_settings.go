package cdc

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	neturl "net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dreamfeed/internal/secret"
)

// settings are the connection's keywords as libpq finds them: in the database
// URL, else in the service, else in the environment, else by default.
type settings struct {
	value map[string]string
	// from says where a keyword's value stands, for messages.
	from map[string]string
	// serviceFile is set if the service stands in another file than pgx looks in.
	serviceFile string
	// pair is the client certificate, if its key is in a form that pgx cannot read.
	pair *tls.Certificate
}

// variables are the environment variables of the keywords that are looked at
// here; pgx reads these and more.
var variables = map[string]string{
	"PGHOST": "host", "PGPORT": "port", "PGHOSTADDR": "hostaddr", "PGPASSWORD": "password", "PGPASSFILE": "passfile",
	"PGSERVICE": "service", "PGSERVICEFILE": "servicefile", "PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert",
	"PGSSLCERT": "sslcert", "PGSSLKEY": "sslkey", "PGSSLPASSWORD": "sslpassword", "PGSSLCERTMODE": "sslcertmode",
	"PGSSLCRL": "sslcrl", "PGSSLCRLDIR": "sslcrldir", "PGREQUIREPEER": "requirepeer", "PGGSSENCMODE": "gssencmode",
	"PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version", "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
}

// connectionSettings gathers the keywords.
func connectionSettings(url string) (*settings, error) {
	s := &settings{value: map[string]string{}, from: map[string]string{}}
	s.defaults()
	for name, keyword := range variables {
		if text := os.Getenv(name); text != "" {
			s.set(keyword, text, name)
		}
	}
	given, err := keywords(url)
	if err != nil {
		return nil, err
	}
	for _, keyword := range []string{"service", "servicefile"} {
		if given[keyword] != "" {
			s.set(keyword, given[keyword], fromURL)
		}
	}
	if name := s.value["service"]; name != "" {
		of, err := s.service(name)
		if err != nil {
			return nil, err
		}
		for keyword, text := range of {
			s.set(keyword, text, "service "+name)
		}
	}
	for keyword, text := range given {
		s.set(keyword, text, fromURL)
	}
	return s, nil
}

// fromURL names the database URL as the place of a setting.
const fromURL = "the database URL"

func (s *settings) set(keyword, text, from string) { s.value[keyword], s.from[keyword] = text, from }

// defaults are the files in the home directory that count if they are there.
func (s *settings) defaults() {
	home, err := os.UserHomeDir()
	if err != nil {
		return
	}
	s.set("passfile", filepath.Join(home, ".pgpass"), "~/.pgpass")
	s.set("servicefile", filepath.Join(home, ".pg_service.conf"), "~/.pg_service.conf")
	dir := filepath.Join(home, ".postgresql")
	there := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	if there("root.crt") {
		s.set("sslrootcert", filepath.Join(dir, "root.crt"), "~/.postgresql")
	}
	if there("postgresql.crt") && there("postgresql.key") {
		s.set("sslcert", filepath.Join(dir, "postgresql.crt"), "~/.postgresql")
		s.set("sslkey", filepath.Join(dir, "postgresql.key"), "~/.postgresql")
	}
}

// keywords reads those of a database URL or a key-value string.
func keywords(text string) (map[string]string, error) {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(text, scheme); ok {
			return urlKeywords(rest)
		}
	}
	out := map[string]string{}
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		keyword, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, errAddress
		}
		var value string
		value, rest, found = keywordValue(strings.TrimLeft(after, " \t\r\n"))
		if !found {
			return nil, errAddress
		}
		out[strings.TrimSpace(keyword)] = value
	}
	return out, nil
}

// keywordValue reads a value, quoted or up to the next space, and returns what
// is behind it.
func keywordValue(text string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		text = text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case quoted && c == '\'':
			return b.String(), text[i+1:], true
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), text[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

// errUnescaped does not repeat the address either.
var errUnescaped = errors.New("read the database URL: it holds an @ in the wrong place: in a password write @ as %40, / as %2F, : as %3A, ? as %3F, " +
	"or give the password in PGPASSWORD, where it stands as it is")

// urlKeywords reads the password, the hosts and the parameters of a URL behind
// its scheme. It may name several hosts, which net/url does not read.
func urlKeywords(rest string) (map[string]string, error) {
	out := map[string]string{}
	before, query, _ := strings.Cut(rest, "?")
	values, err := neturl.ParseQuery(query)
	if err != nil {
		return nil, errAddress
	}
	authority, path, _ := strings.Cut(before, "/")
	// What stands behind such an @ would be taken for a host or a database, and
	// shown as one.
	if strings.Count(authority, "@") > 1 || strings.Contains(path, "@") {
		return nil, errUnescaped
	}
	for keyword := range values {
		if strings.Contains(keyword, "@") {
			return nil, errUnescaped
		}
	}
	if user, hosts, found := strings.Cut(authority, "@"); found {
		authority = hosts
		if _, password, found := strings.Cut(user, ":"); found {
			if out["password"], err = neturl.PathUnescape(password); err != nil {
				return nil, errAddress
			}
		}
	}
	if authority != "" {
		var hosts []string
		for one := range strings.SplitSeq(authority, ",") {
			host := one
			if name, _, err := net.SplitHostPort(one); err == nil {
				host = name
			}
			if host, err = neturl.PathUnescape(host); err != nil {
				return nil, errAddress
			}
			hosts = append(hosts, host)
		}
		out["host"] = strings.Join(hosts, ",")
	}
	for keyword := range values {
		out[keyword] = values.Get(keyword)
	}
	return out, nil
}

// source is the text to give to pgx: the URL, and what pgx would not find or not
// read by itself.
func (s *settings) source(url string) string {
	var more []string
	if s.serviceFile != "" {
		more = append(more, "servicefile", s.serviceFile)
	}
	if s.pair != nil {
		more = append(more, "sslcertmode", "disable")
	}
	for i := 0; i < len(more); i += 2 {
		keyword, value := more[i], more[i+1]
		switch {
		case !strings.Contains(url, "://"):
			url += " " + keyword + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		case strings.Contains(url, "?"):
			url += "&" + keyword + "=" + neturl.QueryEscape(value)
		default:
			url += "?" + keyword + "=" + neturl.QueryEscape(value)
		}
	}
	return url
}

// service finds a service in the user's file, or else in the system's.
func (s *settings) service(name string) (map[string]string, error) {
	user := s.value["servicefile"]
	files := []string{user}
	if dir := os.Getenv("PGSYSCONFDIR"); dir != "" {
		files = append(files, filepath.Join(dir, "pg_service.conf"))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("service %s: %w: let this user read it, or name another file with PGSERVICEFILE", name, err)
		}
		found, err := serviceSection(data, name)
		if err != nil {
			return nil, fmt.Errorf("service %s: read %s: %w", name, file, err)
		}
		if found != nil {
			if file != user {
				s.serviceFile = file
			}
			return found, nil
		}
	}
	return nil, fmt.Errorf("service %s, from %s, is not defined in %s: add a section [%s], or name the right file with PGSERVICEFILE",
		name, s.from["service"], strings.Join(files, " or "), name)
}

// serviceSection reads one section of a service file, nil if there is none.
func serviceSection(data []byte, name string) (map[string]string, error) {
	var out map[string]string
	inside := false
	lines := bufio.NewScanner(bytes.NewReader(data))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			if inside = line[1:len(line)-1] == name; inside {
				out = map[string]string{}
			}
		default:
			keyword, value, found := strings.Cut(line, "=")
			if !found {
				return nil, fmt.Errorf("line %d is neither [section] nor keyword=value: correct it", number)
			}
			if inside {
				out[strings.TrimSpace(keyword)] = strings.TrimSpace(value)
			}
		}
	}
	return out, lines.Err()
}

// readPassfile looks for the password in a password file, as libpq does. A file
// that others may read is refused when it is the one that would be used.
func (a *address) readPassfile(path string) error {
	a.Password, a.passwordFrom = "", ""
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("password file: %w: let this user read it, or name another one with PGPASSFILE", err)
	}
	host := a.Host
	if filepath.IsAbs(host) {
		host = "localhost"
	}
	want := [4]string{host, strconv.Itoa(int(a.Port)), a.Database, a.User}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		fields := passfileFields(line)
		if len(fields) < 5 || strings.HasPrefix(line, "#") {
			continue
		}
		matches := true
		for i, w := range want {
			matches = matches && (fields[i] == "*" || fields[i] == w)
		}
		if !matches {
			continue
		}
		if err := secret.Private(path); err != nil {
			return fmt.Errorf("password file: %w", err)
		}
		a.Password, a.passwordFrom = fields[4], "password file "+path
		return nil
	}
	return nil
}

// passfileFields splits a line at colons that no backslash stands before.
func passfileFields(line string) []string {
	fields := []string{""}
	for i := 0; i < len(line); i++ {
		last := &fields[len(fields)-1]
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			*last += line[i : i+1]
		case line[i] == ':':
			fields = append(fields, "")
		default:
			*last += line[i : i+1]
		}
	}
	return fields
}
