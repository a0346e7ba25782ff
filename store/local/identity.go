package local

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// openFolders makes the folder and the ledger, or looks whether they are there, and refuses an identity that would lie in
// the folder.
func (s *Store) openFolders() error {
	const doing = "set up the store"
	var err error
	if s.opts.Dir, err = filepath.Abs(s.opts.Dir); err != nil {
		return s.fault(err, s.opts.Dir, doing)
	}
	if s.opts.IdentityFile, err = filepath.Abs(s.opts.IdentityFile); err != nil {
		return s.fault(err, s.opts.IdentityFile, doing)
	}
	s.ledger = s.opts.IdentityFile + ".ledger"
	if inside(s.opts.IdentityFile, s.opts.Dir) {
		return s.identityInside(doing)
	}
	if !s.opts.CreateIdentity {
		for _, name := range []string{s.opts.IdentityFile, s.opts.Dir, s.ledger} {
			if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
				s.absent = fault.New(fault.Unavailable, CodeNoStore, s.doing("open the store")).WithAdvice(
					"This machine does not have the store: %s is not there. Run it on the worker's machine, as the worker's user; the worker makes the store when it first starts.", name)
				return nil
			}
		}
	}
	for _, dir := range []string{s.opts.Dir, filepath.Dir(s.opts.IdentityFile), s.ledger} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return s.fault(err, dir, doing)
		}
	}
	// Once more with links followed, now that everything exists.
	dir, err := filepath.EvalSymlinks(s.opts.Dir)
	if err != nil {
		return s.fault(err, s.opts.Dir, doing)
	}
	beside, err := filepath.EvalSymlinks(filepath.Dir(s.opts.IdentityFile))
	if err != nil {
		return s.fault(err, s.opts.IdentityFile, doing)
	}
	target := filepath.Join(beside, filepath.Base(s.opts.IdentityFile))
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real
	}
	if inside(target, dir) {
		return s.identityInside(doing)
	}
	for _, private := range []string{s.opts.Dir, s.ledger} {
		if err := s.checkPrivate(private, "700"); err != nil {
			return err
		}
	}
	return s.checkPlace(s.opts.Dir, s.ledger, filepath.Dir(s.opts.IdentityFile))
}

func (s *Store) identityInside(doing string) error {
	return s.refuse("identity_inside", doing, "The identity %s lies in the folder %s that it decrypts: whoever copies the folder has every key. Move it elsewhere.", s.opts.IdentityFile, s.opts.Dir)
}

func inside(file, dir string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (s *Store) checkPrivate(name, mode string) error {
	info, err := os.Stat(name)
	if err != nil {
		return s.fault(err, name, "look at "+name)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return s.refuse("too_open", "use "+name, "Others than its owner can use it. chmod %s %s", mode, name)
	}
	return nil
}

// openIdentity reads the identity, or makes it if that is wanted and nothing was encrypted yet.
func (s *Store) openIdentity() error {
	err := s.readIdentity()
	if !fault.Is(err, fault.NotFound) || !s.opts.CreateIdentity {
		return err
	}
	if files, err := filepath.Glob(filepath.Join(s.opts.Dir, "*"+ending)); err != nil || len(files) > 0 {
		return s.refuse("identity_lost", "set up the store", "%s is gone, but %s holds files that are encrypted to it. Put it back; a new identity cannot read them.", s.opts.IdentityFile, s.opts.Dir)
	}
	if err := s.createIdentity(); err != nil {
		return s.fault(err, s.opts.IdentityFile, "make the identity "+s.opts.IdentityFile)
	}
	return s.readIdentity()
}

// createIdentity writes a new identity. Of two processes that do so at once both use the first one's.
func (s *Store) createIdentity() error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	dir := filepath.Dir(s.opts.IdentityFile)
	temp, err := os.CreateTemp(dir, tempPrefix+"*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = fmt.Fprintf(temp, "# created: %s\n# public key: %s\n%s\n", s.opts.Now().UTC().Format(time.RFC3339), id.Recipient(), id)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never takes the place of an identity that is there.
	if err := os.Link(temp.Name(), s.opts.IdentityFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// readIdentity reads the X25519 identities of the file; the first one is what files are encrypted to.
func (s *Store) readIdentity() error {
	doing := "read the identity " + s.opts.IdentityFile
	data, err := os.ReadFile(s.opts.IdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "no_identity", s.doing(doing)).WithAdvice("Make one with age-keygen, or let rekey make it.")
	}
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.AccessDenied, "file_permission", s.doing(doing)).WithAdvice("Only its owner can read it: run as that user.")
	}
	if err != nil {
		return s.fault(err, s.opts.IdentityFile, doing)
	}
	if err := s.checkPrivate(s.opts.IdentityFile, "600"); err != nil {
		return err
	}
	if err := s.checkPlace(s.opts.IdentityFile); err != nil {
		return err
	}
	s.identities, s.recipient = nil, nil
	parsed, parseError := age.ParseIdentities(bytes.NewReader(data))
	for _, id := range parsed {
		x, ok := id.(*age.X25519Identity)
		if !ok {
			parseError = errors.New("another kind")
			break
		}
		if s.recipient == nil {
			s.recipient = x.Recipient()
		}
		s.identities = append(s.identities, x)
	}
	// The parser's own words may repeat a line of the file.
	if parseError != nil || s.recipient == nil {
		return s.refuse("bad_identity", doing, "The file must hold an X25519 identity of age (AGE-SECRET-KEY-1…), and nothing else but comments.")
	}
	return nil
}
