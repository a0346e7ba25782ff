package rotation

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The lengths are fixed so that a stamp can be read back without guessing: key names may hold hyphens.
const (
	// InstallLength is the length of an install id.
	InstallLength = 6
	// IDLength is the length of a rotation id.
	IDLength = 8
	// MaxKeyName keeps a stamp within 64 characters, the least that every provider takes.
	MaxKeyName = 64 - len(stampPrefix) - InstallLength - IDLength - attemptDigits - 3
	// MaxAttempt is the last mint attempt that a stamp can name.
	MaxAttempt = 99

	stampPrefix   = "rekey-"
	attemptDigits = 2
)

var (
	installID  = regexp.MustCompile(`^[a-z0-9]{6}$`)
	rotationID = regexp.MustCompile(`^[a-z2-7]{8}$`)
	keyName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
)

// Stamp marks a key at the provider as minted by one attempt of one rotation of one install.
type Stamp struct {
	Install  string
	Key      string
	Rotation string
	Attempt  int
}

// String is `rekey-<install>-<key>-<rotation>-<attempt>`, at most 64 characters of a-z, 0-9 and hyphen.
func (s Stamp) String() string {
	return fmt.Sprintf("%s%s-%s-%s-%0*d", stampPrefix, s.Install, s.Key, s.Rotation, attemptDigits, s.Attempt)
}

// ParseStamp reads a stamp back, from the right. ok is false for anything that is not exactly a stamp: a
// name that only begins like one is somebody else's key.
func ParseStamp(text string) (s Stamp, ok bool) {
	rest, found := strings.CutPrefix(text, stampPrefix)
	if !found {
		return Stamp{}, false
	}
	attempt, rest, ok := cutRight(rest, attemptDigits)
	if !ok {
		return Stamp{}, false
	}
	s.Rotation, rest, ok = cutRight(rest, IDLength)
	if !ok || len(rest) < InstallLength+2 || rest[InstallLength] != '-' {
		return Stamp{}, false
	}
	s.Install, s.Key = rest[:InstallLength], rest[InstallLength+1:]
	n, err := strconv.Atoi(attempt)
	if err != nil || n < 1 {
		return Stamp{}, false
	}
	s.Attempt = n
	return s, s.String() == text && installID.MatchString(s.Install) && rotationID.MatchString(s.Rotation) &&
		ValidKeyName(s.Key)
}

// cutRight splits "rest-tail" where tail has n characters.
func cutRight(text string, n int) (tail, rest string, ok bool) {
	cut := len(text) - n - 1
	if cut < 0 || text[cut] != '-' {
		return "", "", false
	}
	return text[cut+1:], text[:cut], true
}

// SameRotation reports whether both stamps are of one rotation of one key of one install.
func (s Stamp) SameRotation(o Stamp) bool {
	return s.Install == o.Install && s.Key == o.Key && s.Rotation == o.Rotation
}

// ValidKeyName reports whether name can name a key: 1 to MaxKeyName characters a-z, 0-9 and inner hyphens.
func ValidKeyName(name string) bool { return len(name) <= MaxKeyName && keyName.MatchString(name) }

// ValidInstall reports whether id can name an install: six characters a-z, 0-9.
func ValidInstall(id string) bool { return installID.MatchString(id) }

// ID is the rotation id that belongs to a first run id: stable across workflow reset and continue-as-new,
// different for every rotation.
func ID(firstRunID string) string {
	sum := sha256.Sum256([]byte(firstRunID))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}
