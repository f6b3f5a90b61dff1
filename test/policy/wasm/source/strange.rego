package policy

import rego.v1

allow if time.now_ns() > 1

allow if http.send({"method": "GET", "url": "http://127.0.0.1/"}).status_code == 200

reasons contains "never on a Tuesday"
