// Package local is the store local: one encrypted file for each path, in a folder that only its owner can read. It
// is the default of the embedded server, good for one machine.
//
// Files are encrypted with age to an X25519 identity that lies outside the folder, so that a copy of the folder
// gives nobody a key. Beside the identity a ledger notes how often each file was written: a file that was copied
// here, restored from a backup, or lost is refused until an operator says Accept. Whoever can read both the folder
// and the identity can read every value.
//
// Applications read with ReadCurrent. A version that was destroyed is gone from the file; blocks of former files may
// remain on the disk, encrypted.
package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// maxValue keeps a file small; it is what Google Secret Manager takes.
const maxValue = 64 << 10

// Options set up a Store.
type Options struct {
	// Name is how messages call this store; "local" if empty.
	Name string
	// Dir is the folder of the encrypted files.
	Dir string
	// IdentityFile holds the age identity, as age-keygen writes it. It must not lie in Dir. One identity serves one
	// folder. The ledger is the folder <IdentityFile>.ledger.
	IdentityFile string
	// CreateIdentity makes what does not exist: the folders, for their owner only, and the identity if nothing was
	// encrypted yet. Without it nothing is made, and every method of a store that is not on this machine says that
	// (Unavailable, CodeNoStore).
	CreateIdentity bool
	// Now dates versions and the identity; time.Now if nil.
	Now func() time.Time
}

// Store keeps values in encrypted files. See store.Store for what its methods promise; a path is one file name
// without its ending: letters, digits, dots, hyphens and underscores, at most 128, the first a letter or digit.
type Store struct {
	opts       Options
	ledger     string
	identities []age.Identity
	recipient  age.Recipient
	// absent says that the store is not on this machine.
	absent error
}

var (
	_ store.Store = (*Store)(nil)
	_ store.Dated = (*Store)(nil)
)

// CodeNoStore is the code of the fault of a store that is not on this machine.
const CodeNoStore = "no_store"

// New opens the folder. It refuses (Rejected, with advice) an identity inside it, and folders and identities that
// others can read, or that somebody else owns, or could exchange in a folder above.
func New(o Options) (*Store, error) {
	if o.Name == "" {
		o.Name = "local"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{opts: o}
	if o.Dir == "" || o.IdentityFile == "" {
		return nil, s.refuse("bad_options", "set up the store", "say in which folder the files are, and which file holds the identity.")
	}
	if err := s.openFolders(); err != nil {
		return nil, err
	}
	if s.absent != nil {
		return s, nil //nolint:nilerr // every method of a store that is not there says so
	}
	if err := s.openIdentity(); err != nil {
		return nil, err
	}
	return s, nil
}

// Capabilities: applications see a promoted value at once.
func (s *Store) Capabilities() store.Capabilities { return store.Capabilities{CompareAndSet: true} }

// Console is the path's file.
func (s *Store) Console(path string) string { return s.file(path) }

func (s *Store) file(path string) string { return filepath.Join(s.opts.Dir, path+ending) }

// Check reports whether path can be read, and whether there is room here for another version of it.
func (s *Store) Check(ctx context.Context, path string) error {
	return s.exclusive(ctx, path, "check "+path, func(*state) error { return s.probe(path) })
}

// Load reads the record.
func (s *Store) Load(ctx context.Context, path string) (snap store.Snapshot, err error) {
	err = s.shared(ctx, path, "load "+path, func(st *state) error {
		snap = st.snapshot()
		return nil
	})
	return snap, err
}

// Save replaces the record.
func (s *Store) Save(ctx context.Context, path string, snap store.Snapshot) (saved store.Snapshot, err error) {
	err = s.exclusive(ctx, path, "save the record of "+path, func(st *state) error {
		if st.revision() != snap.Revision {
			return store.ErrConflict(path)
		}
		if (snap.Current == nil) != (st.Shown == "") || snap.Current != nil && snap.Current.Number != st.Shown {
			return fault.New(fault.Internal, "not_loaded", s.doing("save the record of "+path+" with another current version than applications read"))
		}
		st.Record, st.recordChanged = snap.Record, true
		if err := s.write(st); err != nil {
			return err
		}
		saved = st.snapshot()
		return nil
	})
	return saved, err
}

// Add stores a value under the next number.
func (s *Store) Add(ctx context.Context, path string, v secret.Value) (number string, err error) {
	err = s.exclusive(ctx, path, "add a version to "+path, func(st *state) error {
		if number, err = s.add(st, v); err != nil {
			return err
		}
		return s.write(st)
	})
	if err != nil {
		return "", err
	}
	return number, nil
}

func (s *Store) add(st *state, v secret.Value) (string, error) {
	if v.IsEmpty() || len(v.Reveal()) > maxValue {
		return "", s.refuse("bad_size", "add a version to "+st.Path, "a value has 1 byte to 64 KiB.")
	}
	st.Last++
	number := strconv.FormatUint(st.Last, 10)
	st.Versions = append(st.Versions, version{Number: number, Value: v, AddedAt: s.opts.Now().UTC()})
	return number, nil
}

// CodeNotEmpty is the code of the fault with which PutFirst refuses a path that has a value.
const CodeNotEmpty = "not_empty"

// PutFirst makes a value the one that applications read, without a rotation: that is how a key that exists already
// comes into the store. A path that has a value, or one that a rotation has staged, is refused (Rejected, CodeNotEmpty)
// and stays as it is. Repeated with the same value it changes nothing.
func (s *Store) PutFirst(ctx context.Context, path string, v secret.Value) (number string, err error) {
	return s.put(ctx, path, v, func(st *state, doing string) (string, error) {
		shown := st.version(st.Shown)
		switch {
		case shown != nil && shown.Value.Equal(v):
			return st.Shown, nil
		case shown != nil:
			return "", s.refuse(CodeNotEmpty, doing, "Applications read %s there already, as version %s: to replace a key, rotate it.", shown.Value.Fingerprint(), st.Shown)
		case st.Record.Pending != nil:
			return "", s.refuse(CodeNotEmpty, doing, "A rotation has staged %s there, as version %s: let it come to its end.", st.Record.Pending.Fingerprint, st.Record.Pending.Number)
		}
		return "", nil
	})
}

// Put does so whatever applications read there now. The former value stays as a version, and its key stays live. A
// rotation under way sees it as a change behind its back.
func (s *Store) Put(ctx context.Context, path string, v secret.Value) (number string, err error) {
	return s.put(ctx, path, v, func(*state, string) (string, error) { return "", nil })
}

// put writes unless look, which runs under the lock, returns the number of a version that will do.
func (s *Store) put(ctx context.Context, path string, v secret.Value, look func(st *state, doing string) (string, error)) (number string, err error) {
	doing := "put a value into " + path
	err = s.exclusive(ctx, path, doing, func(st *state) error {
		if number, err = look(st, doing); err != nil || number != "" {
			return err
		}
		if number, err = s.add(st, v); err != nil {
			return err
		}
		st.Shown, st.recordChanged = number, true
		return s.write(st)
	})
	if err != nil {
		return "", err
	}
	return number, nil
}

// Read returns a value by number.
func (s *Store) Read(ctx context.Context, path, number string) (v secret.Value, err error) {
	err = s.shared(ctx, path, "read version "+number+" of "+path, func(st *state) error {
		found := st.version(number)
		if found == nil {
			return fault.New(fault.NotFound, "no_version", s.doing(fmt.Sprintf("read version %q of %s", number, path)))
		}
		v = found.Value
		return nil
	})
	return v, err
}

// Versions returns all versions, newest first.
func (s *Store) Versions(ctx context.Context, path string) (numbers []string, err error) {
	err = s.shared(ctx, path, "list versions of "+path, func(st *state) error {
		for i := len(st.Versions) - 1; i >= 0; i-- {
			numbers = append(numbers, st.Versions[i].Number)
		}
		return nil
	})
	return numbers, err
}

// AddedAt says when a version was added.
func (s *Store) AddedAt(ctx context.Context, path, number string) (at time.Time, err error) {
	doing := fmt.Sprintf("look at version %q of %s", number, path)
	err = s.shared(ctx, path, doing, func(st *state) error {
		found := st.version(number)
		if found == nil {
			return fault.New(fault.NotFound, "no_version", s.doing(doing))
		}
		at = found.AddedAt
		return nil
	})
	return at, err
}

// Promote makes applications read v and saves the record, in one write.
func (s *Store) Promote(ctx context.Context, path string, snap store.Snapshot, v store.Version) (promoted store.Snapshot, err error) {
	doing := fmt.Sprintf("promote version %q of %s", v.Number, path)
	err = s.exclusive(ctx, path, doing, func(st *state) error {
		if st.revision() != snap.Revision {
			return store.ErrConflict(path)
		}
		if c := snap.Current; c != nil && c.Number == v.Number && c.Fingerprint == v.Fingerprint && st.Shown == v.Number {
			promoted = snap
			return nil
		}
		found := st.version(v.Number)
		if found == nil {
			return fault.New(fault.NotFound, "no_version", s.doing(doing))
		}
		if v.Fingerprint != "" && v.Fingerprint != found.Value.Fingerprint() {
			return s.refuse("other_value", doing, "The version holds %s, not %s as the record says.", found.Value.Fingerprint(), v.Fingerprint)
		}
		st.Record, st.Shown, st.recordChanged = snap.Promoted(v), v.Number, true
		if err := s.write(st); err != nil {
			return err
		}
		promoted = st.snapshot()
		return nil
	})
	return promoted, err
}

// Published reads as ReadCurrent does.
func (s *Store) Published(_ context.Context, path string) (secret.Value, error) {
	doing := "read the current value of " + path
	if err := s.checkPath(path); err != nil {
		return secret.Value{}, err
	}
	if s.absent != nil {
		return secret.Value{}, s.absent
	}
	return s.readCurrent(path, doing)
}

// Destroy takes a version out of the file, unless applications read it.
func (s *Store) Destroy(ctx context.Context, path, number string) error {
	doing := fmt.Sprintf("destroy version %q of %s", number, path)
	return s.exclusive(ctx, path, doing, func(st *state) error {
		if st.version(number) == nil {
			return nil
		}
		if st.Shown == number {
			return s.refuse("in_use", doing, "Applications read it.")
		}
		st.remove(number)
		return s.write(st)
	})
}

// ReadCurrent returns the value that applications are to use now: the newest promoted version of path in the folder
// dir. It takes no lock, writes nothing and does not look at the ledger. Read again when the value is refused, or
// every minute: a rotation replaces the file. NotFound if nothing was published.
func ReadCurrent(dir, path, identityFile string) (secret.Value, error) {
	s := &Store{opts: Options{Name: "local", Dir: dir, IdentityFile: identityFile}}
	doing := "read the current value of " + path
	if err := s.checkPath(path); err != nil {
		return secret.Value{}, err
	}
	if err := s.readIdentity(); err != nil {
		return secret.Value{}, err
	}
	if _, err := os.Stat(dir); err == nil {
		if err := s.checkPlace(dir); err != nil {
			return secret.Value{}, err
		}
	}
	return s.readCurrent(path, doing)
}

func (s *Store) readCurrent(path, doing string) (secret.Value, error) {
	c, err := s.readFile(path, doing)
	if err != nil {
		return secret.Value{}, err
	}
	if c != nil && c.Path != path {
		return secret.Value{}, s.copied(path, doing)
	}
	if c == nil || c.Shown == "" {
		return secret.Value{}, fault.New(fault.NotFound, "nothing_published", s.doing(doing))
	}
	return c.version(c.Shown).Value, nil
}

func (s *Store) doing(what string) string { return what + " (" + s.opts.Name + ")" }

func (s *Store) refuse(code, doing, advice string, args ...any) *fault.Error {
	return fault.New(fault.Rejected, code, s.doing(doing)).WithAdvice(advice, args...)
}
