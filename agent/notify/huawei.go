package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// signHuawei signs a request with an access key and its secret.
// Source: Huawei Cloud, "AK/SK signing", algorithm SDK-HMAC-SHA256: a canonical
// request (method, path with each segment escaped and a slash at its end, query,
// signed headers, hash of the body), its hash with algorithm and time, and an HMAC of that.
func signHuawei(req *http.Request, body []byte, access, secret string, now time.Time) {
	const algorithm = "SDK-HMAC-SHA256"
	stamp := now.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Sdk-Date", stamp)
	var path strings.Builder
	for _, segment := range strings.Split(strings.Trim(req.URL.Path, "/"), "/") {
		path.WriteString("/" + plusless(url.QueryEscape(segment)))
	}
	path.WriteString("/")
	signed := "content-type;host;x-sdk-date"
	canonical := strings.Join([]string{
		req.Method, path.String(), plusless(req.URL.Query().Encode()),
		"content-type:" + strings.TrimSpace(req.Header.Get("Content-Type")),
		"host:" + req.URL.Host,
		"x-sdk-date:" + stamp,
		"", signed, hexHash(body),
	}, "\n")
	toSign := algorithm + "\n" + stamp + "\n" + hexHash([]byte(canonical))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(toSign))
	req.Header.Set("Authorization", algorithm+" Access="+access+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// plusless writes a space as the signature wants it.
func plusless(escaped string) string { return strings.ReplaceAll(escaped, "+", "%20") }

func hexHash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
