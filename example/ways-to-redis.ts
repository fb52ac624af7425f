/** For who has none: `npm start` takes the first of them that is there. */
export const WAYS_TO_REDIS = [
  'Set REDIS_URL to the redis:// URL of a server that may be written to.',
  'Put redis-server or valkey-server on PATH (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; macOS: brew install redis).',
  'Start Docker, as a user who may use it: Docker Desktop (on Windows, too), Docker Engine, rootless Docker, or Colima.',
]
