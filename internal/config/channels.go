package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/notify/webhook"
	"github.com/rekeyhq/rekey/rotation"
)

// Channel is a place where people are notified.
type Channel struct {
	rotation.Channel
	Options webhook.Options
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// channels reads where people are notified. They hold no secrets: they say where those lie.
func (c *check) channels() {
	names := map[string]bool{}
	for i, f := range c.file.Channels {
		where := yamlPath("$.channels").index(i)
		switch {
		case f.Name == "":
			c.problem(where.field("name"), "missing; every channel has a name")
		case !sourceName.MatchString(f.Name):
			c.problem(where.field("name"), "%q cannot name a channel; expected 1 to 39 characters a-z, 0-9 and inner hyphens", f.Name)
		case names[f.Name]:
			c.problem(where.field("name"), "another channel is called %q already", f.Name)
		}
		names[f.Name] = true
		ch := Channel{Channel: rotation.Channel{Name: f.Name}, Options: webhook.Options{Name: f.Name, Type: f.Type}}
		c.choice(where.field("type"), f.Type, true, webhook.Slack, webhook.Webhook)
		ch.Options.Address = c.secretSource(where, "url", f.URLFile, f.URLEnv)
		switch {
		case f.URL != "" && f.Type == webhook.Slack:
			c.problem(where.field("url"), "Slack's address is itself a secret: put it into a file and name that (url_file), or into an environment variable (url_env)")
		case f.URL != "" && !ch.Options.Address.IsEmpty():
			c.problem(where.field("url"), "expected one of url, url_file and url_env")
		case f.URL != "" && !webhook.Safe(f.URL):
			c.problem(where.field("url"), "%q cannot be used as an address; expected https://… without user or fragment (http to loopback only)", f.URL)
		case f.URL == "" && ch.Options.Address.IsEmpty():
			c.problem(where, "the address is missing; expected url_file or url_env")
		}
		ch.Options.URL = f.URL
		c.onlyForType(where, "secret_file", f.SecretFile, f.Type, webhook.Webhook)
		c.onlyForType(where, "secret_env", f.SecretEnv, f.Type, webhook.Webhook)
		if ch.Options.Secret = c.secretSource(where, "secret", f.SecretFile, f.SecretEnv); f.Type == webhook.Webhook && ch.Options.Secret.IsEmpty() {
			c.problem(where, "the secret to sign with is missing; expected secret_file or secret_env")
		}
		if f.Hours != nil {
			ch.Hours = rotation.Window{Zone: f.Hours.Zone}
			c.hours(where.field("hours"), *f.Hours, &ch.Hours)
		}
		c.out.Channels = append(c.out.Channels, ch)
	}
	if f := c.file.UIURL; f != "" {
		u, err := url.Parse(f)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			c.problem("$.ui_url", "%q is not the address of a Temporal UI; expected one like https://temporal.example.com", f)
		}
		c.out.UI = strings.TrimRight(f, "/")
	}
}

// secretSource reads where something secret lies.
func (c *check) secretSource(where yamlPath, what, file, env string) (s webhook.Source) {
	switch {
	case file != "" && env != "":
		c.problem(where.field(what+"_env"), "expected one of %s_file and %s_env", what, what)
	case file != "":
		s.File = c.filePath(where.field(what+"_file"), file)
	case env != "":
		if !variable.MatchString(env) {
			c.problem(where.field(what+"_env"), "expected the name of an environment variable") // not repeated: it may be the secret itself
		}
		s.Env = env
	}
	return s
}

// notifications lays over p whom to tell, and when.
func (c *check) notifications(where yamlPath, f filePolicy, p *rotation.Policy) {
	for _, o := range []struct {
		field string
		names []string
		to    *[]rotation.Channel
	}{{"notify", f.Notify, &p.Notify}, {"escalate", f.Escalate, &p.Escalate}} {
		if o.names == nil {
			continue
		}
		*o.to = nil
		for i, name := range o.names {
			place := where.field(o.field).index(i)
			if slices.Index(o.names, name) < i {
				c.problem(place, "%q is listed twice", name)
			}
			n := slices.IndexFunc(c.out.Channels, func(ch Channel) bool { return ch.Name == name })
			if n < 0 {
				var have []string
				for _, ch := range c.out.Channels {
					have = append(have, ch.Name)
				}
				c.reference(place, "channel", name, have)
				continue
			}
			*o.to = append(*o.to, c.out.Channels[n].Channel)
		}
	}
}

// checkNotifications looks at what tier and key say together.
func (c *check) checkNotifications(where yamlPath, p rotation.Policy) {
	for _, e := range p.Escalate {
		if slices.ContainsFunc(p.Notify, func(n rotation.Channel) bool { return n.Name == e.Name }) {
			c.problem(where.field("policy").field("escalate"), "%q is notified first already (notify); expected another channel", e.Name)
		}
	}
	if p.EscalateAfter >= p.Patience && p.EscalateAfter > 0 {
		c.problem(where.field("policy").field("escalate_after"), "%s is not before the deadline (patience %s)", p.EscalateAfter, p.Patience)
	}
}
