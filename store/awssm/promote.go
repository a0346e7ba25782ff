package awssm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// Promote notes in the record what it is about to publish, then moves AWSCURRENT. See the package comment.
func (s *Store) Promote(ctx context.Context, path string, snap store.Snapshot, v store.Version) (store.Snapshot, error) {
	if err := s.checkPath(path); err != nil {
		return store.Snapshot{}, err
	}
	from, current := parseRevision(snap.Revision)
	d, err := s.describe(ctx, path)
	if err != nil {
		return store.Snapshot{}, s.createAdvice(err, path)
	}
	if d.versions.with(labelCurrent) != current {
		return store.Snapshot{}, store.ErrConflict(path)
	}
	asked := v.Number
	// A value that waits keeps its id when it moves.
	v.Number = strings.TrimPrefix(v.Number, waitingMark)
	if c := snap.Current; c != nil && c.Number == v.Number && c.Fingerprint == v.Fingerprint {
		s.removeAsked(ctx, path, asked)
		return snap, nil
	}
	value, err := s.Read(ctx, path, asked)
	if err != nil {
		return store.Snapshot{}, err
	}
	if v.Fingerprint != "" && v.Fingerprint != value.Fingerprint() {
		return store.Snapshot{}, s.refuse("other_value", "promote version "+v.Number+" of secret "+path, "The version holds %s, not %s as rekey's record says.", value.Fingerprint(), v.Fingerprint)
	}
	v.Fingerprint = value.Fingerprint()
	r := stored{Record: snap.Record, Promoting: &promoting{To: v, From: current}}
	if current == v.Number {
		// Somebody moved AWSCURRENT there already.
		r = stored{Record: snap.Promoted(v)}
	}
	id, err := s.commit(ctx, path, from, r)
	if err != nil {
		return store.Snapshot{}, err
	}
	if current != v.Number {
		if err := s.publish(ctx, path, d.versions, asked, v.Number, value); err != nil {
			return store.Snapshot{}, err
		}
	}
	out := store.Snapshot{Record: snap.Promoted(v), Revision: revision(id, v.Number)}
	s.follow(ctx, path, d.versions.promoted(v.Number), numberOf(out.Pending))
	s.removeAsked(ctx, path, asked)
	return out, nil
}

// promoted is the shape after AWSCURRENT has moved, as far as follow needs it.
func (m labels) promoted(to string) labels {
	out := maps.Clone(m)
	if out == nil {
		out = labels{}
	}
	for id, labels := range out {
		out[id] = slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return l == labelCurrent })
	}
	out[to] = append(out[to], labelCurrent)
	return out
}

// publish makes applications read a version, if they still read what they did.
func (s *Store) publish(ctx context.Context, path string, m labels, asked, number string, value secret.Value) error {
	what := "promote version " + number + " of secret " + path
	current := m.with(labelCurrent)
	if current == "" {
		// The first version of a secret becomes AWSCURRENT. If it does not, it is not the first any more.
		if err := s.put(ctx, path, number, value, keepLabel(number)); errors.Is(err, errOther) {
			return s.refuse("other_value", what, "A version with this id holds another value.")
		} else if err != nil {
			return err
		}
		now, err := s.describe(ctx, path)
		if err == nil && now.versions.with(labelCurrent) != number {
			err = store.ErrConflict(path)
		}
		return err
	}
	if asked != number {
		// It waited while the secret was empty, and somebody has published another value since.
		if _, err := s.add(ctx, path, number, value, keepLabel(number)); errors.Is(err, errOther) {
			return s.refuse("other_value", what, "A version with this id holds another value.")
		} else if err != nil {
			return err
		}
	}
	if !m.ours(current) {
		// AWS lets go of it after one more promote, and it may have to be read until its key is revoked. If this fails,
		// it can be read for as long as it is AWSPREVIOUS.
		_, _ = s.move(ctx, path, keepLabel(current), current, "")
	}
	moved, err := s.move(ctx, path, labelCurrent, number, current)
	if err != nil || moved {
		return err
	}
	now, err := s.describe(ctx, path)
	if err != nil {
		return err
	}
	switch now.versions.with(labelCurrent) {
	case number:
		return nil // an earlier request did it, late
	case current:
		return fault.New(fault.Unavailable, "label_refused", s.doing(what)).WithAdvice("If this stays, look at the secret: %s", fault.Link(s.Console(path)))
	default:
		return store.ErrConflict(path)
	}
}

// removeAsked destroys the copy of what has waited. If it fails the copy stays, and Versions shows it.
func (s *Store) removeAsked(ctx context.Context, path, asked string) {
	if strings.HasPrefix(asked, waitingMark) {
		_ = s.Destroy(ctx, path, asked)
	}
}
