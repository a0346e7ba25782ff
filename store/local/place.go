package local

import (
	"os"
	"path/filepath"
)

// checkPlace refuses what somebody else could put other files into: whoever can do that gives applications a key of their
// own choice, because anybody can encrypt to the identity. Each name must belong to us or to root, and so must all folders
// above it, by the way that was named and by the one behind links; others may write to none, but to one with the sticky
// bit, like /tmp, where nobody can move what belongs to others, and to one below a folder that lets nobody in.
func (s *Store) checkPlace(names ...string) error {
	for _, name := range names {
		named, err := filepath.Abs(name)
		if err != nil {
			return s.fault(err, name, "look at "+name)
		}
		behind, err := filepath.EvalSymlinks(named)
		if err != nil {
			return s.fault(err, name, "look at "+name)
		}
		for _, way := range []string{named, behind} {
			if err := s.checkWay(way); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) checkWay(name string) error {
	open := ""
	for at := name; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return s.fault(err, at, "look at "+at)
		}
		if uid, ok := owner(info); ok && uid != os.Geteuid() && uid != 0 {
			return s.refuse("other_owner", "use "+name, "%s belongs to another user (%d), who could put other keys there. Run as that user, or give it to the one who runs this: chown %d %s", at, uid, os.Geteuid(), at)
		}
		sticky := info.IsDir() && info.Mode()&os.ModeSticky != 0
		if at == name {
			sticky = false // files come and go in it
		}
		if info.Mode().Perm()&0o011 == 0 && at != name {
			open = "" // nobody gets to what lies below
		}
		if info.Mode().Perm()&0o022 != 0 && !sticky && open == "" {
			open = at
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	if open == "" {
		return nil
	}
	return s.refuse("too_open", "use "+name, "Others than its owner can write to %s, and so put other keys there. chmod go-w %s", open, open)
}
