package googlesm

import (
	"context"
	"maps"
	"strconv"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// The aliases that belong to rekey. Applications read current.
const (
	aliasCurrent  = "current"
	aliasPrevious = "previous"
	aliasPending  = "pending"
)

// aliasReaders keeps secrets whose applications read the alias `current`.
type aliasReaders struct{ *client }

// Check reads the secret, asks which permissions are missing, and wants the alias `current` on a secret that has
// values: rekey cannot see whether applications read it or `latest`, and those would meet unverified values.
func (a *aliasReaders) Check(ctx context.Context, path string) error {
	s, err := a.get(ctx, path)
	if fault.Is(err, fault.NotFound) {
		return fault.Of(err).WithAdvice("Create it: gcloud secrets create %s --project=%s --replication-policy=automatic", path, a.opts.Project)
	}
	if err != nil {
		return err
	}
	if _, err := a.decode(path, s.GetAnnotations()); err != nil {
		return err
	}
	if err := a.checkPermissions(ctx, path, allPermissions); err != nil {
		return err
	}
	if _, ok := s.GetVersionAliases()[aliasCurrent]; ok {
		return nil
	}
	found, err := a.newestEnabled(ctx, path)
	if err != nil || found == 0 {
		return err
	}
	return fault.New(fault.Rejected, "no_current_alias", a.doing("use secret "+path)).WithAdvice(
		"It has no alias %q. Set it (gcloud secrets update %s --project=%s --update-version-aliases=%s=%d), let every application read versions/%s, then try again. "+
			"If applications read `latest` and are to stay so, configure readers: latest; otherwise they would see keys that are not verified yet.",
		aliasCurrent, path, a.opts.Project, aliasCurrent, found, aliasCurrent)
}

// Load reads the record and what `current` points at. Without that alias applications are taken to read the newest
// enabled version, and the next Save points the alias there.
func (a *aliasReaders) Load(ctx context.Context, path string) (store.Snapshot, error) {
	s, err := a.get(ctx, path)
	if err != nil {
		return store.Snapshot{}, err
	}
	r, err := a.decode(path, s.GetAnnotations())
	if err != nil {
		return store.Snapshot{}, err
	}
	number, ok := s.GetVersionAliases()[aliasCurrent]
	switch {
	case ok:
	case r.Current != nil:
		// Somebody took the alias away; the next Save puts it back to where it was.
		number, _ = parseNumber(r.Current.Number)
	case r.Format != 0:
		// rekey keeps this path, and nothing was published yet.
	default:
		if number, err = a.newestEnabled(ctx, path); err != nil {
			return store.Snapshot{}, err
		}
	}
	r.Current = found(number, r.Current)
	return store.Snapshot{Record: r.Record, Revision: s.GetEtag()}, nil
}

// found is the current version as the store shows it: with what the record knows of it, or with its number only.
func found(number int64, recorded *store.Version) *store.Version {
	if number == 0 {
		return nil
	}
	text := strconv.FormatInt(number, 10)
	if recorded != nil && recorded.Number == text {
		return recorded
	}
	return &store.Version{Number: text}
}

// newestEnabled is the newest version that can be read; 0 if there is none.
func (a *aliasReaders) newestEnabled(ctx context.Context, path string) (int64, error) {
	all, err := a.list(ctx, path)
	if err != nil {
		return 0, err
	}
	for _, v := range all {
		if v.enabled {
			return v.number, nil
		}
	}
	return 0, nil
}

// Save writes the record with the aliases that follow from it.
func (a *aliasReaders) Save(ctx context.Context, path string, s store.Snapshot) (store.Snapshot, error) {
	now, err := a.atRevision(ctx, path, s.Revision)
	if err != nil {
		return store.Snapshot{}, err
	}
	if number, ok := now.GetVersionAliases()[aliasCurrent]; ok && (s.Current == nil || s.Current.Number != strconv.FormatInt(number, 10)) {
		return store.Snapshot{}, fault.New(fault.Internal, "not_loaded", a.doing("save the record of secret "+path+" with another current version than applications read"))
	}
	return a.write(ctx, path, now, s.Record)
}

// write changes record and aliases in one request, or nothing.
func (a *aliasReaders) write(ctx context.Context, path string, now *secretmanagerpb.Secret, r store.Record) (store.Snapshot, error) {
	annotations, err := a.encode(path, now.GetAnnotations(), stored{Record: r})
	if err != nil {
		return store.Snapshot{}, err
	}
	aliases := map[string]int64{}
	maps.Copy(aliases, now.GetVersionAliases())
	for alias, v := range map[string]*store.Version{aliasCurrent: r.Current, aliasPrevious: r.Previous, aliasPending: r.Pending} {
		if v == nil {
			if alias != aliasCurrent {
				delete(aliases, alias)
			}
			continue
		}
		number, ok := parseNumber(v.Number)
		if !ok {
			return store.Snapshot{}, fault.New(fault.Internal, "bad_number", a.doing("save the record of secret "+path))
		}
		aliases[alias] = number
	}
	if maps.Equal(aliases, now.GetVersionAliases()) {
		aliases = nil
	}
	after, err := a.update(ctx, path, now.GetEtag(), annotations, aliases)
	if err != nil {
		return store.Snapshot{}, err
	}
	return store.Snapshot{Record: r, Revision: after.GetEtag()}, nil
}

// Add stores a value as the newest version. On a secret that has values but no alias `current` it refuses: readers
// of `latest` would see it. Save sets that alias.
func (a *aliasReaders) Add(ctx context.Context, path string, v secret.Value) (string, error) {
	s, err := a.get(ctx, path)
	if err != nil {
		return "", err
	}
	if _, ok := s.GetVersionAliases()[aliasCurrent]; !ok {
		inPlace, err := a.newestEnabled(ctx, path)
		if err != nil {
			return "", err
		}
		r, err := a.decode(path, s.GetAnnotations())
		if err != nil {
			return "", err
		}
		if inPlace != 0 && (r.Format == 0 || r.Current != nil) {
			return "", fault.New(fault.Rejected, "no_current_alias", a.doing("add a version to secret "+path)).WithAdvice("Save the record first: that sets the alias %q, without which applications read the newest version.", aliasCurrent)
		}
	}
	number, err := a.add(ctx, path, v)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(number, 10), nil
}

// Read returns a value by number.
func (a *aliasReaders) Read(ctx context.Context, path, number string) (secret.Value, error) {
	n, ok := parseNumber(number)
	if !ok {
		return secret.Value{}, fault.New(fault.NotFound, "bad_number", a.doing("read a version of secret "+path))
	}
	return a.read(ctx, path, n)
}

// Versions returns the enabled versions, newest first.
func (a *aliasReaders) Versions(ctx context.Context, path string) ([]string, error) {
	all, err := a.list(ctx, path)
	if err != nil {
		return nil, err
	}
	var numbers []string
	for _, v := range all {
		if v.enabled {
			numbers = append(numbers, strconv.FormatInt(v.number, 10))
		}
	}
	return numbers, nil
}

// AddedAt says when a version was added.
func (a *aliasReaders) AddedAt(ctx context.Context, path, number string) (time.Time, error) {
	n, ok := parseNumber(number)
	if !ok {
		return time.Time{}, fault.New(fault.NotFound, "bad_number", a.doing("look at a version of secret "+path))
	}
	return a.addedAt(ctx, path, n)
}

// Promote points `current` at v, after reading it: an alias of a version that cannot be read takes the key from
// every application.
func (a *aliasReaders) Promote(ctx context.Context, path string, s store.Snapshot, v store.Version) (store.Snapshot, error) {
	now, err := a.atRevision(ctx, path, s.Revision)
	if err != nil {
		return store.Snapshot{}, err
	}
	if s.Current != nil && s.Current.Number == v.Number && s.Current.Fingerprint == v.Fingerprint && now.GetVersionAliases()[aliasCurrent] == numberOf(v.Number) {
		return s, nil
	}
	value, err := a.Read(ctx, path, v.Number)
	if err != nil {
		return store.Snapshot{}, err
	}
	if err := a.same(path, v, value); err != nil {
		return store.Snapshot{}, err
	}
	return a.write(ctx, path, now, s.Promoted(v))
}

// same refuses to publish another value than the caller means.
func (c *client) same(path string, v store.Version, value secret.Value) error {
	if v.Fingerprint == "" || v.Fingerprint == value.Fingerprint() {
		return nil
	}
	return fault.New(fault.Rejected, "other_value", c.doing("promote version "+v.Number+" of secret "+path)).WithAdvice(
		"The version holds %s, not %s as rekey's record says.", value.Fingerprint(), v.Fingerprint)
}

// Published reads the alias `current`; on a secret that rekey has not touched and that has no such alias, `latest`.
func (a *aliasReaders) Published(ctx context.Context, path string) (secret.Value, error) {
	value, _, err := a.access(ctx, path, aliasCurrent)
	if !fault.Is(err, fault.NotFound) {
		return value, err
	}
	s, getError := a.get(ctx, path)
	if getError != nil {
		return secret.Value{}, getError
	}
	if _, ok := s.GetVersionAliases()[aliasCurrent]; ok {
		return secret.Value{}, fault.New(fault.Unavailable, "alias_lag", a.doing("read version "+aliasCurrent+" of secret "+path)).WithAdvice("The alias is set, but readers do not see it yet. Google's docs: this typically takes minutes.")
	}
	if _, ok := s.GetAnnotations()[annotation]; ok {
		return secret.Value{}, err
	}
	value, _, err = a.access(ctx, path, "latest")
	return value, err
}

// Destroy destroys a version that `current` does not point at.
func (a *aliasReaders) Destroy(ctx context.Context, path, number string) error {
	n, ok := parseNumber(number)
	if !ok {
		return fault.New(fault.Rejected, "bad_number", a.doing("destroy a version of secret "+path))
	}
	s, err := a.Load(ctx, path)
	if err != nil {
		return err
	}
	if s.Current != nil && s.Current.Number == number {
		return fault.New(fault.Rejected, "in_use", a.doing("destroy version "+number+" of secret "+path)).WithAdvice("Applications read it.")
	}
	return a.destroy(ctx, path, n)
}
