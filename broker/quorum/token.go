package quorum

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TokensSetting is the cluster-wide setting that holds what is needed to check join
// tokens: HASH:EXPIRY, … (SHA-256 of the secret in hex, seconds since 1970). A token
// that does not stand there any more lets nobody in.
const TokensSetting = "cluster.join.tokens"

// tokenPrefix begins a token, so that one is recognised where it does not belong.
const tokenPrefix = "belfry-join-1."

// secretBytes is the length of a token's secret. Why 32: nobody guesses it.
const secretBytes = 32

// Token lets a new node join the cluster until it expires. Whoever has it can do so.
type Token struct {
	Cluster     string    `json:"cluster"`
	Controllers []string  `json:"controllers"` // HOST:PORT of members' controller listeners
	Secret      []byte    `json:"secret"`
	Expires     time.Time `json:"expires"`
}

// NewToken makes a token and gives the entry of TokensSetting that lets it in.
func NewToken(cluster string, controllers []string, expires time.Time) (t Token, entry string) {
	t = Token{Cluster: cluster, Controllers: controllers, Secret: make([]byte, secretBytes), Expires: expires.UTC().Truncate(time.Second)}
	if _, err := rand.Read(t.Secret); err != nil {
		panic("BUG: crypto/rand never fails: " + err.Error())
	}
	return t, hashOf(t.Secret) + ":" + strconv.FormatInt(t.Expires.Unix(), 10)
}

func hashOf(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// Text is the token as an operator carries it.
func (t Token) Text() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic("BUG: a token can be encoded: " + err.Error())
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// String hides the secret, in logs too.
func (t Token) String() string { return "join token of cluster " + t.Cluster }

// ParseToken reads Text.
func ParseToken(text string) (Token, error) {
	var t Token
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if ok && err == nil {
		err = json.Unmarshal(b, &t)
	}
	if !ok || err != nil || t.Cluster == "" || len(t.Controllers) == 0 || len(t.Secret) != secretBytes {
		return Token{}, fmt.Errorf("this is not a join token, or not a whole one: make one with `belfry cluster join-token`")
	}
	return t, nil
}

// CheckTokenEntry tells whether an entry of TokensSetting looks like one.
func CheckTokenEntry(entry string) (expires time.Time, err error) {
	hash, at, ok := strings.Cut(entry, ":")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if b, hexErr := hex.DecodeString(hash); !ok || err != nil || hexErr != nil || len(b) != sha256.Size {
		return time.Time{}, fmt.Errorf("%q is not HASH:EXPIRY as `belfry cluster join-token` makes it", entry)
	}
	return time.Unix(seconds, 0), nil
}

// admits tells whether a secret is good now.
//
// Errors: unknown, or expired.
func admits(setting string, secret []byte, now time.Time) error {
	want := hashOf(secret)
	for _, entry := range strings.Split(setting, ",") {
		entry = strings.TrimSpace(entry)
		hash, _, _ := strings.Cut(entry, ":")
		if subtle.ConstantTimeCompare([]byte(hash), []byte(want)) == 0 {
			continue
		}
		expires, err := CheckTokenEntry(entry)
		if err != nil || now.After(expires) {
			return fmt.Errorf("the join token expired at %s: make another one with `belfry cluster join-token`", expires.UTC().Format(time.RFC3339))
		}
		return nil
	}
	return fmt.Errorf("the join token is not known to the cluster: make another one with `belfry cluster join-token`")
}
