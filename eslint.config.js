import neostandard from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['**/dist/**', '.tap/**', 'coverage/**'] }),
  {
    rules: {
      // tap's, fast-check's and Fastify's generics read better in one line
      '@stylistic/max-len': 'off',
    },
  },
  { files: ['plugin/**'], rules: { 'max-lines': ['error', 400] } },
  // a test shows one behaviour: its callback is the longest function of such a file
  { files: ['test/**/*.test.ts'], rules: { 'max-lines-per-function': ['error', 60] } },
]
