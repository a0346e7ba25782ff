package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/gofrs/flock"

	"github.com/rekeyhq/rekey/rotation/fault"
)

const (
	ending     = ".age"
	tempPrefix = ".tmp-"
	// lockTimeout is how long a call waits for another process that is writing.
	lockTimeout = 30 * time.Second
	// lockPoll is how often it looks.
	lockPoll = 5 * time.Millisecond
	// maxFile is far more than versions of 64 KiB add up to.
	maxFile = 64 << 20
)

var pathName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// state is a path as it was found, to be changed and written back.
type state struct {
	content
	// noted is the ledger's entry; nil if there is none.
	noted *entry
	// recordChanged makes the next write give the record a new revision.
	recordChanged bool
}

// entry is what the ledger knows of a file. Generation 0 is noted before the file is first written.
type entry struct {
	Instance   string `json:"instance"`
	Generation uint64 `json:"generation"`
	// Last is the highest version number, so that after a restored backup none is given twice.
	Last uint64 `json:"last"`
}

// ValidPath reports whether a text can be a path.
func ValidPath(path string) bool { return pathName.MatchString(path) }

func (s *Store) checkPath(path string) error {
	if !ValidPath(path) {
		return s.refuse("bad_path", "use a path", "a path has 1 to 128 letters, digits, dots, hyphens and underscores, and begins with a letter or digit.")
	}
	return nil
}

// shared runs f on the state of path while nobody writes.
func (s *Store) shared(ctx context.Context, path, doing string, f func(*state) error) error {
	return s.locked(ctx, path, doing, (*flock.Flock).TryRLockContext, f)
}

// exclusive runs f on the state of path while nobody else reads or writes.
func (s *Store) exclusive(ctx context.Context, path, doing string, f func(*state) error) error {
	return s.locked(ctx, path, doing, (*flock.Flock).TryLockContext, f)
}

type take = func(*flock.Flock, context.Context, time.Duration) (bool, error)

func (s *Store) locked(ctx context.Context, path, doing string, how take, f func(*state) error) error {
	release, err := s.lock(ctx, path, doing, how)
	if err != nil {
		return err
	}
	defer release()
	st, err := s.find(path, doing)
	if err != nil {
		return err
	}
	return f(st)
}

// lock takes the one lock of this identity's files. It lies in the ledger, which no copy of the folder has.
func (s *Store) lock(ctx context.Context, path, doing string, how take) (release func(), err error) {
	if err := s.checkPath(path); err != nil {
		return nil, err
	}
	if s.absent != nil {
		return nil, s.absent
	}
	lock := flock.New(filepath.Join(s.ledger, ".lock"), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	ok, err := how(lock, ctx, lockPoll)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || err == nil && !ok {
		return nil, fault.New(fault.Unavailable, "locked", s.doing(doing)).WithAdvice("Another process is writing to this store.")
	}
	if err != nil {
		return nil, s.fault(err, lock.Path(), doing)
	}
	return func() { _ = lock.Close() }, nil
}

// find reads a path's file and compares it with the ledger.
func (s *Store) find(path, doing string) (*state, error) {
	noted, err := s.readEntry(path, doing)
	if err != nil {
		return nil, err
	}
	c, err := s.readFile(path, doing)
	if err != nil {
		return nil, err
	}
	st := &state{noted: noted, content: content{Path: path}}
	switch {
	case c == nil && (noted == nil || noted.Generation == 0):
		if noted != nil {
			st.Last = noted.Last
		}
		return st, nil
	case c == nil:
		return nil, s.refuse("lost", doing, "Its file %s is gone, and was there before. Restore it from a backup; then, or if its values are to be given up, accept what is there now.", s.file(path))
	case c.Path != path || noted == nil || noted.Instance != c.Instance:
		return nil, s.copied(path, doing)
	case c.Generation < noted.Generation:
		return nil, s.refuse("restored", doing, "Its file %s is older than the one that was last written (%d < %d), as from a backup: keys that it holds may be revoked, and newer ones missing. Put the newest file back, or accept this one.", s.file(path), c.Generation, noted.Generation)
	case c.Generation > noted.Generation+1:
		return nil, s.refuse("ledger_restored", doing, "The ledger %s is older than the file %s, as from a backup. Make sure that the file is the newest, then accept it.", s.ledger, s.file(path))
	}
	// One ahead is a write that was cut off before it reached the ledger.
	st.content = *c
	return st, nil
}

func (s *Store) copied(path, doing string) *fault.Error {
	return s.refuse("copied", doing, "Its file %s was not written here under this name, so another rekey may be using the same keys. If this is the only one in use, put it under its own name and accept it.", s.file(path))
}

// write replaces the file, then notes it in the ledger. Cut off in between, the file is one generation ahead, which
// find takes; so the ledger is brought up before the next write, and has an entry before the first.
func (s *Store) write(st *state) error {
	doing := "write " + st.Path
	if st.noted == nil && st.Instance == "" {
		st.noted = &entry{Instance: randomID()}
		if err := s.writeEntry(st.Path, *st.noted); err != nil {
			return s.fault(err, s.entryFile(st.Path), doing)
		}
	}
	if st.Instance == "" {
		st.Instance = st.noted.Instance
	}
	if st.noted != nil && st.Generation > st.noted.Generation {
		if err := s.writeEntry(st.Path, st.entry()); err != nil {
			return s.fault(err, s.entryFile(st.Path), doing)
		}
	}
	st.Generation++
	if st.recordChanged {
		st.RecordGeneration, st.recordChanged = st.Generation, false
	}
	data, err := encrypt(&st.content, s.recipient)
	if err != nil {
		return fault.New(fault.Internal, "encrypt", s.doing(doing))
	}
	if len(data) > maxFile {
		return s.refuse("too_large", doing, "Its versions are too many for one file: destroy some.")
	}
	s.removeTemps()
	if err := replace(s.file(st.Path), data); err != nil {
		f := s.fault(err, s.file(st.Path), doing)
		f.Unsettled = errors.Is(err, errRenamed)
		return f
	}
	if err := s.writeEntry(st.Path, st.entry()); err != nil {
		f := s.fault(err, s.entryFile(st.Path), doing)
		f.Unsettled = true
		return f
	}
	e := st.entry()
	st.noted = &e
	return nil
}

func (st *state) entry() entry {
	return entry{Instance: st.Instance, Generation: st.Generation, Last: st.Last}
}

// Accept takes a file as it is now for the true one, after it was restored, copied here, or lost. It is an
// operator's decision: keys in a restored file may be revoked, and newer ones are missing. Numbers of versions and
// revisions of the record are not used a second time. A file that belongs to another path, is damaged, or is
// encrypted to another identity is refused all the same.
func (s *Store) Accept(ctx context.Context, path string) error {
	doing := "accept " + path
	release, err := s.lock(ctx, path, doing, (*flock.Flock).TryLockContext)
	if err != nil {
		return err
	}
	defer release()
	// Not through find, which is what refuses.
	noted, err := s.readEntry(path, doing)
	if err != nil {
		return err
	}
	c, err := s.readFile(path, doing)
	if err != nil {
		return err
	}
	switch {
	case c == nil && noted == nil:
		return nil
	case c == nil:
		if err := s.writeEntry(path, entry{Instance: randomID(), Last: noted.Last}); err != nil {
			return s.fault(err, s.entryFile(path), doing)
		}
		return nil
	case c.Path != path:
		return s.copied(path, doing)
	}
	st := &state{content: *c, recordChanged: true}
	if noted != nil && noted.Instance == c.Instance {
		st.Generation, st.Last = max(c.Generation, noted.Generation), max(c.Last, noted.Last)
	} else {
		st.Instance = randomID()
	}
	return s.write(st)
}

// readFile returns nil if there is no file.
func (s *Store) readFile(path, doing string) (*content, error) {
	file, err := os.Open(s.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		// Without its folder the store is not empty but away.
		if _, err := os.Stat(s.opts.Dir); err != nil {
			return nil, fault.New(fault.Unavailable, "no_folder", s.doing(doing)).WithAdvice("The folder %s is not there.", s.opts.Dir)
		}
		return nil, nil
	}
	if err != nil {
		return nil, s.fault(err, s.file(path), doing)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, s.fault(err, s.file(path), doing)
	}
	c, err := decrypt(data, s.identities)
	noMatch := new(age.NoIdentityMatchError)
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &noMatch):
		return nil, s.refuse("wrong_identity", doing, "The file %s is encrypted to another identity than the one in %s. Put the right one back.", s.file(path), s.opts.IdentityFile)
	case errors.Is(err, errFormat):
		return nil, s.refuse("file_format", doing, "The file %s was written by another version of rekey: update this one.", s.file(path))
	default:
		return nil, s.refuse("damaged", doing, "The file %s is damaged. Nothing was changed: restore it from a backup and accept it.", s.file(path))
	}
}

func (s *Store) entryFile(path string) string { return filepath.Join(s.ledger, path+".json") }

func (s *Store) readEntry(path, doing string) (*entry, error) {
	text, err := os.ReadFile(s.entryFile(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fault(err, s.entryFile(path), doing)
	}
	var e entry
	if json.Unmarshal(text, &e) != nil || e.Instance == "" {
		return nil, s.refuse("bad_ledger", doing, "%s is damaged. Make sure that %s is the newest file, remove the damaged one, then accept the path.", s.entryFile(path), s.file(path))
	}
	return &e, nil
}

func (s *Store) writeEntry(path string, e entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return replace(s.entryFile(path), append(text, '\n'))
}

// errRenamed marks an error after the new file took the old one's place.
var errRenamed = errors.New("renamed")

// replace writes a file so that after a crash either the old or the new one is there, whole.
func replace(name string, data []byte) error {
	dir := filepath.Dir(name)
	temp, err := os.CreateTemp(dir, tempPrefix+"*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), name); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return errors.Join(errRenamed, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeTemps takes away what writers left that were killed. The caller holds the lock, so none is at work.
func (s *Store) removeTemps() {
	for _, dir := range []string{s.opts.Dir, s.ledger} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tempPrefix) {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// probeRoom is how much more than a path's file has now must fit beside it: a write makes the whole file anew, with
// another version in it.
const probeRoom = 16 << 10

// probe reports whether both folders can be written to, and whether there is room for another file of path.
func (s *Store) probe(path string) error {
	room := probeRoom
	if info, err := os.Stat(s.file(path)); err == nil {
		room += int(info.Size())
	}
	for _, file := range []string{s.file(path), s.entryFile(path)} {
		dir := filepath.Dir(file)
		temp, err := os.CreateTemp(dir, tempPrefix+"*")
		if err == nil {
			_, err = temp.Write(make([]byte, room))
			// A disk that only promised the room says so when it is written out.
			err = errors.Join(err, temp.Sync(), temp.Close(), os.Remove(temp.Name()))
		}
		if err != nil {
			return s.fault(err, file, "write to "+dir)
		}
	}
	return nil
}

// fault classifies an error of the file system about a file, or a folder.
func (s *Store) fault(err error, file, doing string) *fault.Error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.New(fault.AccessDenied, "file_permission", s.doing(doing)).WithAdvice("rekey must be able to read and write %s and %s; this is about %s. When it may, this goes on by itself.", s.opts.Dir, s.ledger, file)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(fault.Unavailable, "no_space", s.doing(doing)).WithAdvice("There is no space left for %s. Free some, or raise the quota; then this goes on by itself.", file)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fault.New(fault.Unavailable, "too_many_files", s.doing(doing)).WithAdvice("This process, or the machine, has as many files open as it may, so %s could not be opened. Raise the limit (ulimit -n) and start rekey again.", file)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Unavailable, "no_folder", s.doing(doing)).WithAdvice("%s or %s is not there.", s.opts.Dir, s.ledger)
	}
	return fault.New(fault.Unavailable, "file_error", s.doing(doing)).WithAdvice("%s cannot be read or written.", file)
}

func randomID() string {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // it never fails: crypto/rand ends the program instead
	return hex.EncodeToString(raw)
}
