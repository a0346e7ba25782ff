package simcloud

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/secret"
)

// OpenAIKey is one key as the console lists it: the value was shown once, when it was made.
type OpenAIKey struct {
	ID        string
	Name      string
	Redacted  string
	CreatedAt time.Time
	// Restricted: the key may use models and do nothing else.
	Restricted bool
}

// CreateKey is a person who makes a key of a project in the console and copies it. The API accepts it after
// Timing.Propagation (OpenAI documents no number; its SDK speaks of authentication caches).
func (o *OpenAI) CreateKey(project, name string) (id string, value secret.Value) {
	plain := newOpenAIKey()
	now := o.cloud.Now()
	k := &openAIKey{
		OpenAIKey: OpenAIKey{ID: "key_" + strings.ToLower(rand.Text())[:16], Name: name, Redacted: redact(plain), CreatedAt: now},
		project:   project, value: secret.FromString(plain),
		acceptedFrom: now.Add(o.cloud.Timing().Propagation),
	}
	o.mu.Lock()
	o.keys = append(o.keys, k)
	o.mu.Unlock()
	o.cloud.Record(Event{Kind: KeyCreated, Service: openAIService, Target: project, KeyID: k.ID})
	return k.ID, k.value
}

// DeleteKey is a person who revokes a key. The API goes on accepting it for Timing.RevocationLag.
func (o *OpenAI) DeleteKey(id string) error {
	k, err := o.change(id, func(k *openAIKey) {
		k.deleted = true
		k.refusedFrom = o.cloud.Now().Add(o.cloud.Timing().RevocationLag)
	})
	if err != nil {
		return err
	}
	o.cloud.Record(Event{Kind: KeyDeleted, Service: openAIService, Target: k.project, KeyID: id})
	return nil
}

// Restrict is a person who leaves a key nothing but the use of models: applications work on, but the key may no
// longer list them. The API learns of it after Timing.RevocationLag.
func (o *OpenAI) Restrict(id string) error {
	_, err := o.change(id, func(k *openAIKey) {
		k.Restricted = true
		k.narrowFrom = o.cloud.Now().Add(o.cloud.Timing().RevocationLag)
	})
	return err
}

// Keys is what the console lists for a project: the keys that exist, oldest first.
func (o *OpenAI) Keys(project string) []OpenAIKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	var keys []OpenAIKey
	for _, k := range o.keys {
		if k.project == project && !k.deleted {
			keys = append(keys, k.OpenAIKey)
		}
	}
	return keys
}

// Made returns every value that was ever made here, of deleted keys too: what a search for leaks looks for.
func (o *OpenAI) Made() []secret.Value {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []secret.Value
	for _, k := range o.keys {
		all = append(all, k.value)
	}
	return all
}

// ExhaustQuota is a project that has spent its budget, or (false) a person who raised it.
func (o *OpenAI) ExhaustQuota(project string, exhausted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.exhausted[project] = exhausted
}

// AllowAddresses is a person who limits a project to requests from prefixes; none lifts the limit.
func (o *OpenAI) AllowAddresses(project string, prefixes ...netip.Prefix) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(prefixes) == 0 {
		delete(o.allowed, project)
		return
	}
	o.allowed[project] = prefixes
}

// Reside is a project with data residency in a region ("eu", "us"), which answers at that region's own address and at no
// other; empty is none.
func (o *OpenAI) Reside(project, region string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.regions[project] = region
}

// change applies f to a key that exists.
func (o *OpenAI) change(id string, f func(*openAIKey)) (*openAIKey, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range o.keys {
		if k.ID == id && !k.deleted {
			f(k)
			return k, nil
		}
	}
	return nil, fmt.Errorf("the console shows no key %s", id)
}

// newOpenAIKey looks like a project key of the real one: prefix, length and the mark in the middle by which
// secret scanners know it.
func newOpenAIKey() string {
	random := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(rand.Text())
		}
		return b.String()[:n]
	}
	return "sk-proj-" + random(74) + "T3BlbkFJ" + random(74)
}

// redact is how the console and the error texts show a key: its beginning and its end.
func redact(key string) string {
	if len(key) <= 12 {
		return strings.Repeat("*", len(key))
	}
	return key[:8] + strings.Repeat("*", len(key)-12) + key[len(key)-4:]
}
