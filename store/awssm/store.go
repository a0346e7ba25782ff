package awssm

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// waitingMark goes before the number of a value that waits in the second secret, because the first has none yet.
const waitingMark = "waiting/"

// Load reads the record and what AWSCURRENT is on.
func (s *Store) Load(ctx context.Context, path string) (store.Snapshot, error) {
	if err := s.checkPath(path); err != nil {
		return store.Snapshot{}, err
	}
	// The record first: what a Promote notes there comes before its move of AWSCURRENT.
	r, err := s.record(ctx, path)
	if err != nil {
		return store.Snapshot{}, err
	}
	d, err := s.describe(ctx, path)
	if err != nil {
		return store.Snapshot{}, s.createAdvice(err, path)
	}
	current := d.versions.with(labelCurrent)
	return store.Snapshot{Record: r.r.as(current), Revision: revision(r.id, current)}, nil
}

// as is the record where applications read the version current.
func (r stored) as(current string) store.Record {
	if p := r.Promoting; p != nil && p.To.Number == current {
		return r.Promoted(p.To)
	}
	out := r.Record
	switch {
	case current == "":
		out.Current = nil
	case out.Current == nil || out.Current.Number != current:
		out.Current = &store.Version{Number: current}
	}
	return out
}

// Save writes the record, then lets AWSPENDING follow it.
func (s *Store) Save(ctx context.Context, path string, snap store.Snapshot) (store.Snapshot, error) {
	if err := s.checkPath(path); err != nil {
		return store.Snapshot{}, err
	}
	from, current := parseRevision(snap.Revision)
	d, err := s.describe(ctx, path)
	if err != nil {
		return store.Snapshot{}, s.createAdvice(err, path)
	}
	switch {
	case d.versions.with(labelCurrent) != current:
		return store.Snapshot{}, store.ErrConflict(path)
	case numberOf(snap.Current) != current:
		return store.Snapshot{}, fault.New(fault.Internal, "not_loaded", s.doing("save the record of secret "+path+" with another current version than applications read"))
	}
	before, err := s.recordAt(ctx, path, from)
	if err != nil {
		return store.Snapshot{}, err
	}
	r := stored{Record: snap.Record}
	// While applications read what they read before a Promote that was cut off, its move may still come.
	if p := before.Promoting; p != nil && p.From == current && p.To.Number != current {
		r.Promoting = p
	}
	id, err := s.commit(ctx, path, from, r)
	if err != nil {
		return store.Snapshot{}, err
	}
	s.follow(ctx, path, d.versions, numberOf(snap.Pending))
	return store.Snapshot{Record: snap.Record, Revision: revision(id, current)}, nil
}

// follow puts AWSPENDING on the pending version, and takes it from a version of ours that is not pending any more. On
// AWSCURRENT's own version it may stay: that is how AWS's rotations end. It never touches the version of somebody else.
// What counts is the record, so if this fails the next Save does it.
func (s *Store) follow(ctx context.Context, path string, m labels, pending string) {
	at, current := m.with(labelPending), m.with(labelCurrent)
	if at == pending || at != "" && at != current && !m.ours(at) || pending == "" && at == current || strings.HasPrefix(pending, waitingMark) {
		return
	}
	_, _ = s.move(ctx, path, labelPending, pending, at)
}

func numberOf(v *store.Version) string {
	if v == nil {
		return ""
	}
	return v.Number
}

// Add stores a value in a version that no application reads. If a rotation of AWS's own has made a version for it
// (AWSPENDING, without a value), the value goes there: that is where AWS looks for it.
func (s *Store) Add(ctx context.Context, path string, v secret.Value) (string, error) {
	if err := s.checkPath(path); err != nil {
		return "", err
	}
	d, err := s.describe(ctx, path)
	if err != nil {
		return "", s.createAdvice(err, path)
	}
	if d.versions.with(labelCurrent) == "" {
		return s.addWaiting(ctx, path, v)
	}
	if at := d.versions.with(labelPending); at != "" && at != d.versions.with(labelCurrent) {
		reserved := d.versions.ours(at)
		if !reserved {
			_, err := s.get(ctx, path, at, "")
			if err != nil && !fault.Is(err, fault.NotFound) {
				return "", err
			}
			reserved = err != nil
		}
		if reserved {
			number, err := s.add(ctx, path, at, v, labelPending, keepLabel(at))
			if !errors.Is(err, errOther) {
				return number, err
			}
		}
	}
	id := idFor(path, v)
	return s.add(ctx, path, id, v, keepLabel(id))
}

// addWaiting stores the first value of an empty secret in the second one. That one must have the record already, or
// the value would be its AWSCURRENT version.
func (s *Store) addWaiting(ctx context.Context, path string, v secret.Value) (string, error) {
	r, err := s.record(ctx, path)
	if err != nil {
		return "", err
	}
	if r.id == "" {
		return "", s.refuse("no_record", "add a version to secret "+path, "Save the record first: the secret is empty, and AWS would publish its first version at once.")
	}
	id := idFor(path, v)
	if _, err := s.add(ctx, recordSecret(path), id, v, keepLabel(id)); err != nil {
		return "", err
	}
	return waitingMark + id, nil
}

// add puts a value and sees to it that the version has our label, also one that existed and was destroyed.
func (s *Store) add(ctx context.Context, id, version string, v secret.Value, labels ...string) (string, error) {
	if err := s.put(ctx, id, version, v, labels...); err != nil {
		return "", err
	}
	d, err := s.describe(ctx, id)
	if err == nil && d.versions.ours(version) {
		return version, nil
	}
	if err == nil {
		var moved bool
		if moved, err = s.move(ctx, id, keepLabel(version), version, ""); err == nil && !moved {
			err = fault.New(fault.Unavailable, "label_refused", s.doing("label a version of secret "+id))
		}
	}
	if err != nil {
		f := *fault.Of(err)
		f.Unsettled = true
		return "", &f
	}
	return version, nil
}

// place says which secret a number belongs to. ok is false for what is not a version id.
func place(path, number string) (id, version string, ok bool) {
	id = path
	if rest, waiting := strings.CutPrefix(number, waitingMark); waiting {
		id, number = recordSecret(path), rest
	}
	return id, number, versionID.MatchString(number)
}

// Read returns a value by version id. A version without labels is destroyed.
func (s *Store) Read(ctx context.Context, path, number string) (secret.Value, error) {
	g, err := s.read(ctx, path, number)
	return g.value, err
}

// AddedAt is when a version was made. One that RotateSecret made for a rotation is older than its value.
func (s *Store) AddedAt(ctx context.Context, path, number string) (time.Time, error) {
	g, err := s.read(ctx, path, number)
	return g.made, err
}

func (s *Store) read(ctx context.Context, path, number string) (got, error) {
	if err := s.checkPath(path); err != nil {
		return got{}, err
	}
	what := "read a version of secret " + path
	id, version, ok := place(path, number)
	if !ok {
		return got{}, fault.New(fault.NotFound, "bad_number", s.doing(what))
	}
	g, err := s.get(ctx, id, version, "")
	if err != nil {
		return got{}, err
	}
	if len(g.labels) == 0 || id != path && !slices.Contains(g.labels, keepLabel(version)) {
		return got{}, fault.New(fault.NotFound, "destroyed", s.doing(what))
	}
	return g, nil
}

// Versions returns the versions that have labels and values, newest first, and those that wait in the second secret.
func (s *Store) Versions(ctx context.Context, path string) ([]string, error) {
	if err := s.checkPath(path); err != nil {
		return nil, err
	}
	all, err := s.list(ctx, path)
	if err != nil {
		return nil, s.createAdvice(err, path)
	}
	for i, v := range all {
		if slices.Equal(v.labels, []string{labelPending}) {
			// Perhaps one that a rotation of AWS's own has made, without a value.
			if _, err := s.get(ctx, path, v.id, ""); fault.Is(err, fault.NotFound) {
				all = slices.Delete(all, i, i+1)
				break
			} else if err != nil {
				return nil, err
			}
		}
	}
	waiting, err := s.list(ctx, recordSecret(path))
	if err != nil {
		return nil, s.createAdvice(err, recordSecret(path))
	}
	for _, v := range waiting {
		if slices.Contains(v.labels, keepLabel(v.id)) {
			v.id = waitingMark + v.id
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, func(a, b listed) int { return cmp.Compare(b.created.UnixNano(), a.created.UnixNano()) })
	var numbers []string
	for _, v := range all {
		numbers = append(numbers, v.id)
	}
	return numbers, nil
}

// Published reads AWSCURRENT, as applications do.
func (s *Store) Published(ctx context.Context, path string) (secret.Value, error) {
	if err := s.checkPath(path); err != nil {
		return secret.Value{}, err
	}
	g, err := s.get(ctx, path, "", labelCurrent)
	return g.value, err
}

// Destroy takes all labels from a version that is not AWSCURRENT; see the package comment on what that means.
func (s *Store) Destroy(ctx context.Context, path, number string) error {
	if err := s.checkPath(path); err != nil {
		return err
	}
	id, version, ok := place(path, number)
	if !ok {
		return nil // AWS has no such version
	}
	d, err := s.describe(ctx, id)
	if err != nil {
		return err
	}
	labels := d.versions[version]
	if id == path && slices.Contains(labels, labelCurrent) {
		return s.refuse("in_use", "destroy version "+number+" of secret "+path, "Applications read it.")
	}
	for _, label := range labels {
		if id != path && label != keepLabel(version) {
			continue
		}
		// Refused means that somebody was faster, or that it became AWSCURRENT, which cannot be removed.
		if _, err := s.move(ctx, id, label, "", version); err != nil {
			return err
		}
	}
	return nil
}
