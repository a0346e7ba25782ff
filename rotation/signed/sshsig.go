package signed

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Namespace keeps signatures for rekey and for anything else apart: ssh-keygen -Y sign -n rekey.
const Namespace = "rekey"

// The frame of a signature file, as OpenSSH writes it.
const (
	begin = "-----BEGIN SSH SIGNATURE-----"
	end   = "-----END SSH SIGNATURE-----"
	magic = "SSHSIG"
)

// maxSignature bounds what is read as a signature; that of the largest RSA key is some 4 KiB.
const maxSignature = 16 << 10

// minRSA is the smallest RSA key whose signatures count.
const minRSA = 3072

// envelope is OpenSSH's SSHSIG after its magic (PROTOCOL.sshsig).
type envelope struct {
	Version   uint32
	Key       string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

// toSign is what the key itself signs, after the magic.
type toSign struct {
	Namespace, Reserved, Hash, Sum string
}

// Signature is an SSHSIG that was read, not checked.
type Signature struct {
	// Key is the public key that claims to have signed.
	Key       ssh.PublicKey
	namespace string
	hash      string
	signature ssh.Signature
	encoded   string
}

// Read reads a signature: the file that ssh-keygen -Y sign writes, or its base64 alone. It checks its form and that it
// is of a kind that counts, and nothing else. The error is a part of a sentence for whoever sent it.
func Read(text string) (Signature, error) {
	if len(text) > maxSignature {
		return Signature{}, errors.New("it is too long for a signature")
	}
	inner := strings.TrimSpace(text)
	if rest, framed := strings.CutPrefix(inner, begin); framed {
		if inner, framed = strings.CutSuffix(rest, end); !framed {
			return Signature{}, fmt.Errorf("it does not end with %q", end)
		}
	}
	encoded := strings.Join(strings.Fields(inner), "")
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Signature{}, errors.New("it is neither what ssh-keygen -Y sign writes nor its base64")
	}
	raw, found := bytes.CutPrefix(raw, []byte(magic))
	var e envelope
	if !found || ssh.Unmarshal(raw, &e) != nil || e.Version != 1 || e.Reserved != "" {
		return Signature{}, errors.New("this is not an SSHSIG of version 1")
	}
	s := Signature{namespace: e.Namespace, hash: e.Hash, encoded: encoded}
	if s.Key, err = parse([]byte(e.Key)); err != nil {
		return Signature{}, err
	}
	if ssh.Unmarshal([]byte(e.Signature), &s.signature) != nil {
		return Signature{}, errors.New("it holds no signature")
	}
	if want := algorithm(s.Key.Type()); s.signature.Format != want {
		return Signature{}, fmt.Errorf("it is made with %q; a key of type %s signs with %q", s.signature.Format, s.Key.Type(), want)
	}
	if len(s.signature.Rest) > 0 && !strings.HasPrefix(s.Key.Type(), "sk-") {
		return Signature{}, errors.New("something stands behind the signature")
	}
	if _, err := s.sum(nil); err != nil {
		return Signature{}, err
	}
	return s, nil
}

// Fits reports whether the signature was made over a text, for rekey, by the key that it names.
func (s Signature) Fits(text []byte) bool {
	sum, err := s.sum(text)
	return err == nil && s.namespace == Namespace && s.Key.Verify(frame(s.namespace, s.hash, sum), &s.signature) == nil
}

// String is the signature in base64, in one line.
func (s Signature) String() string { return s.encoded }

func (s Signature) sum(text []byte) ([]byte, error) {
	switch s.hash {
	case "sha512":
		sum := sha512.Sum512(text)
		return sum[:], nil
	case "sha256":
		sum := sha256.Sum256(text)
		return sum[:], nil
	}
	return nil, fmt.Errorf("its hash is %q; expected sha512 or sha256", s.hash)
}

func frame(namespace, hash string, sum []byte) []byte {
	return append([]byte(magic), ssh.Marshal(toSign{Namespace: namespace, Hash: hash, Sum: string(sum)})...)
}

// Sign signs a text for rekey and returns the signature in base64. Keys that do not count are refused before they are
// used.
func Sign(signer ssh.Signer, text []byte) (string, error) {
	if _, err := parse(signer.PublicKey().Marshal()); err != nil {
		return "", err
	}
	sum := sha512.Sum512(text)
	data := frame(Namespace, "sha512", sum[:])
	var made *ssh.Signature
	var err error
	if s, ok := signer.(ssh.AlgorithmSigner); ok {
		made, err = s.SignWithAlgorithm(rand.Reader, data, algorithm(signer.PublicKey().Type()))
	} else {
		made, err = signer.Sign(rand.Reader, data)
	}
	if err != nil {
		return "", err
	}
	e := envelope{Version: 1, Key: string(signer.PublicKey().Marshal()), Namespace: Namespace, Hash: "sha512", Signature: string(ssh.Marshal(made))}
	return base64.StdEncoding.EncodeToString(append([]byte(magic), ssh.Marshal(e)...)), nil
}

// Armor is a signature as the file that ssh-keygen -Y sign writes and ssh-keygen -Y verify reads.
func Armor(signature string) string {
	var b strings.Builder
	b.WriteString(begin + "\n")
	for line := range slices.Chunk([]byte(signature), 70) {
		b.Write(append(line, '\n'))
	}
	return b.String() + end + "\n"
}

// algorithm is how a type of key signs.
func algorithm(keyType string) string {
	if keyType == ssh.KeyAlgoRSA {
		return ssh.KeyAlgoRSASHA512
	}
	return keyType
}

// ParseKey reads an operator's public key as it is in authorized_keys or in a .pub file: type, base64, and perhaps a
// comment. Options and certificates are refused, and keys that are too weak. The error says what was expected.
func ParseKey(line string) (ssh.PublicKey, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 || strings.ContainsAny(line, "\r\n") {
		return nil, errors.New(`expected one line like "ssh-ed25519 AAAA…", as in the file ~/.ssh/id_ed25519.pub`)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return nil, errors.New("what follows the type is not the base64 form of a public key; copy the whole line of the .pub file")
	}
	key, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if key.Type() != fields[0] {
		return nil, fmt.Errorf("the line says %s, but the key in it is of type %s", fields[0], key.Type())
	}
	return key, nil
}

// Line is a public key as an operator has it: type and base64.
func Line(key ssh.PublicKey) string {
	return key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal())
}

var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSA,
}

// parse reads a public key of a kind that counts.
func parse(raw []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, errors.New("it holds no public SSH key")
	}
	if !slices.Contains(keyTypes, key.Type()) {
		return nil, fmt.Errorf("keys of type %s do not count; expected ssh-ed25519, sk-ssh-ed25519@openssh.com, ecdsa, or RSA of %d bits or more", key.Type(), minRSA)
	}
	if !bytes.Equal(key.Marshal(), raw) {
		return nil, errors.New("it holds a public SSH key that is written oddly")
	}
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("an RSA key of %d bits does not count; expected %d or more, or better ssh-ed25519", k.N.BitLen(), minRSA)
		}
	}
	return key, nil
}
