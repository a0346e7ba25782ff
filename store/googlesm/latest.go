package googlesm

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// pendingSuffix makes the id of the secret that holds the record and the pending values.
const pendingSuffix = "-rekey-pending"

// pendingMark goes before the numbers of pending values, to distinguish them from the numbers that applications may see.
const pendingMark = "p"

// latestReaders keeps secrets whose applications read the newest version.
type latestReaders struct{ *client }

// Check reads both secrets and asks which permissions are missing.
func (l *latestReaders) Check(ctx context.Context, path string) error {
	if _, err := l.get(ctx, path); err != nil {
		return l.createAdvice(err, path)
	}
	s, err := l.get(ctx, path+pendingSuffix)
	if err != nil {
		return l.createAdvice(err, path+pendingSuffix)
	}
	if _, err := l.decode(path+pendingSuffix, s.GetAnnotations()); err != nil {
		return err
	}
	for _, id := range []string{path, path + pendingSuffix} {
		if err := l.checkPermissions(ctx, id, allPermissions); err != nil {
			return err
		}
	}
	return nil
}

func (l *latestReaders) createAdvice(err error, id string) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	return fault.Of(err).WithAdvice("Create it: gcloud secrets create %s --project=%s --replication-policy=automatic (values that are not verified yet wait in the one that ends in %s; applications need no access to it).", id, l.opts.Project, pendingSuffix)
}

// keeper reads the secret that holds the record.
func (l *latestReaders) keeper(ctx context.Context, path string) (*secretmanagerpb.Secret, stored, error) {
	s, err := l.get(ctx, path+pendingSuffix)
	if err != nil {
		return nil, stored{}, l.createAdvice(err, path+pendingSuffix)
	}
	r, err := l.decode(path+pendingSuffix, s.GetAnnotations())
	return s, r, err
}

// keeperAt is keeper at a revision, or a conflict.
func (l *latestReaders) keeperAt(ctx context.Context, path, revision string) (*secretmanagerpb.Secret, stored, error) {
	s, err := l.atRevision(ctx, path+pendingSuffix, revision)
	if err != nil {
		return nil, stored{}, l.createAdvice(err, path+pendingSuffix)
	}
	r, err := l.decode(path+pendingSuffix, s.GetAnnotations())
	return s, r, err
}

// shown is what applications' secret holds.
type shown struct {
	// newest is the version that was created last, whatever its state: what `latest` means. 0 if there is none.
	newest int64
	// readable is the newest that is enabled. It is the same unless somebody broke `latest`.
	readable int64
	// value belongs to readable, if it was read.
	value secret.Value
}

// look finds the newest versions. Lists lag, but access by number does not, and numbers are consecutive: so it asks
// for the numbers after the newest one that the list or the record knows.
func (l *latestReaders) look(ctx context.Context, path string, r stored) (shown, error) {
	var out shown
	all, err := l.list(ctx, path)
	if err != nil {
		return out, err
	}
	if len(all) > 0 {
		out.newest = all[0].number
	}
	if i := slices.IndexFunc(all, func(v listed) bool { return v.enabled }); i >= 0 {
		out.readable = all[i].number
	}
	next := out.newest + 1
	if r.Current != nil && numberOf(r.Current.Number) > out.newest {
		next = numberOf(r.Current.Number)
	}
	for ; ; next++ {
		value, _, err := l.access(ctx, path, strconv.FormatInt(next, 10))
		switch {
		case err == nil:
			out.newest, out.readable, out.value = next, next, value
		case isNotEnabled(err):
			out.newest = next
		case fault.Is(err, fault.NotFound):
			return out, nil
		default:
			return out, err
		}
	}
}

// readValue fills in the value of the readable version.
func (l *latestReaders) readValue(ctx context.Context, path string, s *shown) (err error) {
	if s.readable != 0 && s.value.IsEmpty() {
		s.value, err = l.read(ctx, path, s.readable)
	}
	return err
}

// Load reads the record and compares it with the newest version that can be read. A version that a promote added
// before it was cut off is recognised by its value, and the record is given as that promote would have left it.
func (l *latestReaders) Load(ctx context.Context, path string) (store.Snapshot, error) {
	s, r, err := l.keeper(ctx, path)
	if err != nil {
		return store.Snapshot{}, err
	}
	now, err := l.look(ctx, path, r)
	if err != nil {
		return store.Snapshot{}, err
	}
	if err := l.reconcile(ctx, path, &r, now); err != nil {
		return store.Snapshot{}, err
	}
	return store.Snapshot{Record: r.Record, Revision: s.GetEtag()}, nil
}

// reconcile makes the record say what applications read.
func (l *latestReaders) reconcile(ctx context.Context, path string, r *stored, now shown) error {
	if now.readable == 0 {
		r.Current = nil
		return nil
	}
	number := strconv.FormatInt(now.readable, 10)
	if r.Current != nil && r.Current.Number == number {
		return nil
	}
	if r.Current != nil || r.Promoting != nil {
		if err := l.readValue(ctx, path, &now); err != nil {
			return err
		}
		fingerprint := now.value.Fingerprint()
		if p := r.Promoting; p != nil && now.readable > p.After && p.Version.Fingerprint == fingerprint {
			v := p.Version
			v.Number = number
			r.Record, r.Promoting = r.Promoted(v), nil
			return nil
		}
		if c := r.Current; c != nil && c.Fingerprint == fingerprint {
			// The same value once more: a request that was given up on took effect late.
			v := *c
			v.Number = number
			r.Current = &v
			return nil
		}
	}
	r.Current = &store.Version{Number: number}
	return nil
}

// Save writes the record.
func (l *latestReaders) Save(ctx context.Context, path string, s store.Snapshot) (store.Snapshot, error) {
	now, r, err := l.keeperAt(ctx, path, s.Revision)
	if err != nil {
		return store.Snapshot{}, err
	}
	// While what applications read is as it was before a promote that was cut off, its version may still come.
	if p := r.Promoting; p != nil && s.Current != nil && numberOf(s.Current.Number) > p.After {
		r.Promoting = nil
	}
	return l.write(ctx, path, now, stored{Record: s.Record, Promoting: r.Promoting})
}

func (l *latestReaders) write(ctx context.Context, path string, now *secretmanagerpb.Secret, r stored) (store.Snapshot, error) {
	id := path + pendingSuffix
	annotations, err := l.encode(id, now.GetAnnotations(), r)
	if err != nil {
		return store.Snapshot{}, err
	}
	after, err := l.update(ctx, id, now.GetEtag(), annotations, nil)
	if err != nil {
		return store.Snapshot{}, err
	}
	return store.Snapshot{Record: r.Record, Revision: after.GetEtag()}, nil
}

// Add stores a value in the pending secret.
func (l *latestReaders) Add(ctx context.Context, path string, v secret.Value) (string, error) {
	if err := l.checkPath(path + pendingSuffix); err != nil {
		return "", err
	}
	number, err := l.add(ctx, path+pendingSuffix, v)
	if err != nil {
		return "", err
	}
	return pendingMark + strconv.FormatInt(number, 10), nil
}

// place says which secret a number belongs to.
func (l *latestReaders) place(path, number string) (id string, n int64, ok bool) {
	id = path
	if rest, pending := strings.CutPrefix(number, pendingMark); pending {
		id, number = path+pendingSuffix, rest
	}
	n, ok = parseNumber(number)
	return id, n, ok
}

// Read returns a value by number, of either secret.
func (l *latestReaders) Read(ctx context.Context, path, number string) (secret.Value, error) {
	id, n, ok := l.place(path, number)
	if !ok {
		return secret.Value{}, fault.New(fault.NotFound, "bad_number", l.doing("read a version of secret "+path))
	}
	return l.read(ctx, id, n)
}

// Versions returns the enabled versions of both secrets, newest first.
func (l *latestReaders) Versions(ctx context.Context, path string) ([]string, error) {
	type numbered struct {
		listed
		number string
	}
	var all []numbered
	for _, area := range []struct{ id, mark string }{{path + pendingSuffix, pendingMark}, {path, ""}} {
		versions, err := l.list(ctx, area.id)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			if v.enabled {
				all = append(all, numbered{v, area.mark + strconv.FormatInt(v.number, 10)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b numbered) int { return cmp.Compare(b.created.UnixNano(), a.created.UnixNano()) })
	var numbers []string
	for _, v := range all {
		numbers = append(numbers, v.number)
	}
	return numbers, nil
}

// AddedAt says when a version of either secret was added.
func (l *latestReaders) AddedAt(ctx context.Context, path, number string) (time.Time, error) {
	id, n, ok := l.place(path, number)
	if !ok {
		return time.Time{}, fault.New(fault.NotFound, "bad_number", l.doing("look at a version of secret "+path))
	}
	return l.addedAt(ctx, id, n)
}

// Promote adds the value of v to the secret that applications read, unless its newest version holds it already.
//
// It first notes in the record, by compare-and-set, what it is about to add: of two that try at the same time one
// is refused before it has added anything, and after a crash the added version is known for ours. A rollback adds
// the old value once more: an older version cannot become the newest.
func (l *latestReaders) Promote(ctx context.Context, path string, s store.Snapshot, v store.Version) (store.Snapshot, error) {
	keeper, r, err := l.keeperAt(ctx, path, s.Revision)
	if err != nil {
		return store.Snapshot{}, err
	}
	now, err := l.look(ctx, path, r)
	if err != nil {
		return store.Snapshot{}, err
	}
	if number := currentNumber(s.Record); number != now.readable {
		// Somebody added a version since s was read, which the etag of the record does not show.
		return store.Snapshot{}, store.ErrConflict(path)
	}
	asked := v
	done := s.Current != nil && v.Fingerprint != "" && s.Current.Fingerprint == v.Fingerprint && now.newest == now.readable
	if done && r.Promoting == nil && currentNumber(r.Record) == now.readable {
		l.tidy(ctx, path, asked, s.Record)
		return s, nil
	}
	if done {
		v = *s.Current
	} else if v, keeper, err = l.publish(ctx, path, keeper, s, v, now); err != nil {
		return store.Snapshot{}, err
	}
	saved, err := l.write(ctx, path, keeper, stored{Record: s.Promoted(v)})
	if err != nil {
		// The value is published all the same, so this is not a conflict, even if the record changed in the meantime.
		f := *fault.Of(err)
		f.Class, f.Unsettled = fault.Unavailable, true
		if f.Code == store.Conflict {
			f.Code = "interrupted"
		}
		return store.Snapshot{}, &f
	}
	l.tidy(ctx, path, asked, saved.Record)
	return saved, nil
}

// publish makes applications read the value of v. It returns v with its number there, and the keeper as it is then.
func (l *latestReaders) publish(ctx context.Context, path string, keeper *secretmanagerpb.Secret, s store.Snapshot, v store.Version, now shown) (store.Version, *secretmanagerpb.Secret, error) {
	value, err := l.Read(ctx, path, v.Number)
	if err != nil {
		return v, nil, err
	}
	if err := l.same(path, v, value); err != nil {
		return v, nil, err
	}
	v.Fingerprint = value.Fingerprint()
	if now.newest == now.readable {
		if err := l.readValue(ctx, path, &now); err != nil {
			return v, nil, err
		}
		if now.value.Equal(value) {
			v.Number = strconv.FormatInt(now.readable, 10)
			return v, keeper, nil
		}
	}
	noted, err := l.encode(path+pendingSuffix, keeper.GetAnnotations(), stored{Record: s.Record, Promoting: &promoting{Version: v, After: now.newest}})
	if err != nil {
		return v, nil, err
	}
	if keeper, err = l.update(ctx, path+pendingSuffix, keeper.GetEtag(), noted, nil); err != nil {
		return v, nil, err
	}
	number, err := l.add(ctx, path, value)
	if err != nil {
		return v, nil, err
	}
	v.Number = strconv.FormatInt(number, 10)
	return v, keeper, nil
}

// tidy destroys the pending copy of what was just published. If it fails the copy stays and Versions shows it.
func (l *latestReaders) tidy(ctx context.Context, path string, promoted store.Version, after store.Record) {
	id, n, ok := l.place(path, promoted.Number)
	if ok && id != path && after.Current != nil && promoted.Fingerprint != "" && promoted.Fingerprint == after.Current.Fingerprint {
		_ = l.destroy(ctx, id, n)
	}
}

func currentNumber(r store.Record) int64 {
	if r.Current == nil {
		return 0
	}
	return numberOf(r.Current.Number)
}

// Published reads `latest`.
func (l *latestReaders) Published(ctx context.Context, path string) (secret.Value, error) {
	value, _, err := l.access(ctx, path, "latest")
	return value, err
}

// Destroy destroys a version that is not the newest, nor the newest that can be read. Pending values are read by
// nobody and can always be destroyed.
func (l *latestReaders) Destroy(ctx context.Context, path, number string) error {
	id, n, ok := l.place(path, number)
	if !ok {
		return fault.New(fault.Rejected, "bad_number", l.doing("destroy a version of secret "+path))
	}
	if err := l.checkPath(id); err != nil {
		return err
	}
	if id == path {
		_, r, err := l.keeper(ctx, path)
		if err != nil {
			return err
		}
		now, err := l.look(ctx, path, r)
		if err != nil {
			return err
		}
		if n == now.newest || n == now.readable || n == currentNumber(r.Record) {
			return fault.New(fault.Rejected, "in_use", l.doing("destroy version "+number+" of secret "+path)).WithAdvice("Applications read the newest version, and this is it.")
		}
	}
	return l.destroy(ctx, id, n)
}
