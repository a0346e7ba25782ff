package config

import (
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// The types of sources that may trigger rotations.
const (
	HMAC                 = "hmac"
	GitHubSecretScanning = "github-secret-scanning"
	GoogleSecretRotate   = "google-secret-rotate"
)

// DefaultListen is where the worker listens for triggers if the file does not say.
const DefaultListen = "127.0.0.1:8787"

// Triggers is who may ask the worker for rotations over HTTP. Without sources it does not listen.
type Triggers struct {
	// Listen is host:port.
	Listen string
	// Host is the only Host header that is answered; empty means any.
	Host string
	// Rate is how many deliveries a second each source may make.
	Rate float64
	// Sources are in the order of their names.
	Sources []TriggerSource
}

// TriggerSource is a sender.
type TriggerSource struct {
	Name, Type string
	// SecretFile holds the shared secret of hmac and github-secret-scanning.
	SecretFile string
	// Keys are patterns of the names of the keys that the source may trigger; none means all.
	Keys []string
	// SecretTypes are, for github-secret-scanning, patterns of the names of the keys that an alert of a type is about if
	// it does not tell the value.
	SecretTypes map[string][]string
	// Audience and ServiceAccount are what the token of a google-secret-rotate push says. Store is the store whose secrets
	// it is about, and Project that store's project; ProjectNumber is the number of the project, which is how messages
	// name it.
	Audience, ServiceAccount, Store, Project, ProjectNumber string
}

var (
	sourceName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,37}[a-z0-9])?$`)
	hostName   = regexp.MustCompile(`^[A-Za-z0-9.-]+(?::[0-9]{1,5})?$|^\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?$`)
	digits     = regexp.MustCompile(`^[0-9]{1,20}$`)
)

// defaultTriggerRate is deliveries a second for one source.
const defaultTriggerRate = 10

func (c *check) triggers() {
	f, where := c.file.Triggers, yamlPath("$.triggers")
	if f == nil {
		return
	}
	t := Triggers{Listen: f.Listen, Host: strings.ToLower(f.Host), Rate: defaultTriggerRate}
	if t.Listen == "" {
		t.Listen = DefaultListen
	}
	if host, port, err := net.SplitHostPort(t.Listen); err != nil || host == "" || !validPort(port) {
		c.problem(where.field("listen"), "%q is not a valid address; expected host:port like %s", t.Listen, DefaultListen)
	}
	if t.Host != "" && !hostName.MatchString(t.Host) {
		c.problem(where.field("host"), "%q is not a valid host name; expected the one that senders use, like rekey.example.com", f.Host)
	}
	if f.Rate != "" {
		t.Rate = c.rate(where.field("rate"), f.Rate, "deliveries")
	}
	if len(f.Sources) == 0 {
		c.problem(where.field("sources"), "missing; expected at least one source, or leave triggers out")
	}
	files := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Sources)) {
		t.Sources = append(t.Sources, c.source(name, files))
	}
	c.out.Triggers = &t
}

func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && n >= 0 && n <= 65535
}

// source reads one sender. files are the files of secrets that others have taken: whoever knows the secret of one source
// could sign for the other.
func (c *check) source(name string, files map[string]string) TriggerSource {
	f, where := c.file.Triggers.Sources[name], yamlPath("$.triggers.sources").entry(name)
	s := TriggerSource{
		Name: name, Type: f.Type, Keys: f.Keys, SecretTypes: f.SecretTypes,
		Audience: f.Audience, ServiceAccount: f.ServiceAccount, Store: f.Store, ProjectNumber: f.ProjectNumber,
	}
	if !sourceName.MatchString(name) {
		c.problem(where, "%q cannot name a source, it is part of a URL; expected 1 to 39 characters a-z, 0-9 and inner hyphens", name)
	}
	c.choice(where.field("type"), f.Type, true, HMAC, GitHubSecretScanning, GoogleSecretRotate)
	c.patterns(where.field("keys"), f.Keys)
	c.known(where.field("keys"), f.Keys)
	if f.Type == GoogleSecretRotate {
		c.onlyForType(where, "secret_file", f.SecretFile, f.Type, HMAC+" or "+GitHubSecretScanning)
		c.push(where, f, &s)
		return s
	}
	for _, o := range []struct{ field, value string }{
		{"audience", f.Audience}, {"service_account", f.ServiceAccount}, {"store", f.Store}, {"project_number", f.ProjectNumber},
	} {
		c.onlyForType(where, o.field, o.value, f.Type, GoogleSecretRotate)
	}
	if s.SecretFile = c.filePath(where.field("secret_file"), f.SecretFile); s.SecretFile != "" {
		if other, taken := files[s.SecretFile]; taken {
			c.problem(where.field("secret_file"), "the source %s has this file already; give each source a secret of its own", other)
		}
		files[s.SecretFile] = name
	}
	if len(f.SecretTypes) > 0 && f.Type != GitHubSecretScanning {
		c.problem(where.field("secret_types"), "is for type %s only; this one is %s", GitHubSecretScanning, f.Type)
	}
	for _, kind := range slices.Sorted(maps.Keys(f.SecretTypes)) {
		place := where.field("secret_types").entry(kind)
		if len(f.SecretTypes[kind]) == 0 {
			c.problem(place, "missing; expected patterns of key names")
		}
		c.patterns(place, f.SecretTypes[kind])
		c.known(place, f.SecretTypes[kind])
	}
	return s
}

// push reads what a Pub/Sub push must say.
func (c *check) push(where yamlPath, f fileTriggerSource, s *TriggerSource) {
	if len(f.SecretTypes) > 0 {
		c.problem(where.field("secret_types"), "is for type %s only; this one is %s", GitHubSecretScanning, f.Type)
	}
	if f.Audience == "" {
		c.problem(where.field("audience"), "missing; expected the audience of the push subscription (--push-auth-token-audience)")
	}
	if !strings.Contains(f.ServiceAccount, "@") {
		c.problem(where.field("service_account"), "%q is not a valid service account; expected the email that the push subscription signs as", f.ServiceAccount)
	}
	if !digits.MatchString(f.ProjectNumber) {
		c.problem(where.field("project_number"), "%q is not a valid project number; expected what `gcloud projects describe PROJECT --format='value(projectNumber)'` prints", f.ProjectNumber)
	}
	var have []string
	for _, name := range slices.Sorted(maps.Keys(c.file.Stores)) {
		if c.file.Stores[name].Type == GoogleSecretManager {
			have = append(have, name)
		}
	}
	c.reference(where.field("store"), "store of type "+GoogleSecretManager, f.Store, have)
	s.Project = c.file.Stores[f.Store].Project
}

// known refuses patterns that mean no key of the file: somebody counts on them.
func (c *check) known(where yamlPath, patterns []string) {
	for i, p := range patterns {
		if p != "" && !slices.ContainsFunc(c.file.Keys, func(k fileKey) bool { return matches([]string{p}, k.Name) }) {
			c.problem(where.index(i), "%q means no key of this file", p)
		}
	}
}

// SecretIs reports whether a message's name of a secret (projects/…/secrets/…) means the given path of the source's store.
func (s TriggerSource) SecretIs(name, path string) bool {
	for _, project := range []string{s.ProjectNumber, s.Project} {
		if project != "" && name == "projects/"+project+"/secrets/"+path {
			return true
		}
	}
	return false
}

// KeyOfSecret is the key that a message's name of a secret is about.
func (s TriggerSource) KeyOfSecret(keys []rotation.Key, name string) (rotation.Key, bool) {
	for _, k := range keys {
		for _, l := range k.Stores {
			if l.Store == s.Store && s.SecretIs(name, l.Path) {
				return k, true
			}
		}
	}
	return rotation.Key{}, false
}
