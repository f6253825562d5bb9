// usage: node verdicts.js REPORT SOURCE KEPT CONFIG: prints what jest's REPORT says in the form of page/suites.
const fs = require('fs')
const path = require('path')

const [report, source, kept, config] = process.argv.slice(2)
const reasons = new Map()
const head = []
for (const line of fs.readFileSync(kept, 'utf8').split('\n')) {
  const f = line.split('\t')
  if ((f[1] === 'fail' || f[1] === 'skip') && f[2] !== 'needs several brokers') reasons.set(f[0] + '\t' + f[1], f[2])
  if (f[0] === 'title') head.push(line)
}
const settings = fs.readFileSync(config, 'utf8').split('\n')
  .map(l => l.split(': ')).filter(f => f.length === 2 && !f[0].startsWith('#'))
  .map(([name, value]) => `${name}=${value}`).sort().join(', ')
console.log(head[0])
console.log(`date\t${new Date().toISOString().slice(0, 10)}`)
console.log(`settings\t${settings}`)
console.log('by hand\tits package carries no tests: they are taken from the source repository, see suites/kafkajs/by-hand; folders admin, broker, cluster, consumer, producer against three brokers')

// patterns are what a message says, where nobody has looked at the case before.
const patterns = [
  [/ECONNREFUSED [0-9.]*:(909[34679]|9100)\b|SASL/, 'needs TLS or SASL'],
]
const reason = (name, is, said) =>
  reasons.get(name + '\t' + is) || (patterns.find(([p]) => p.test(said)) || [])[1] || said

const lines = []
const seen = new Map()
for (const file of JSON.parse(fs.readFileSync(report, 'utf8')).testResults) {
  const where = path.relative(source, file.name).replace('__tests__/', '').replace(/\.spec\.js$/, '')
  for (const c of file.assertionResults) {
    let name = `${where}: ${c.title}`.replace(/\s+/g, ' ')
    const n = (seen.get(name) || 0) + 1
    seen.set(name, n)
    if (n > 1) name += ` (${n})`
    const is = { passed: 'ok', failed: 'fail' }[c.status] || 'skip'
    const said = (c.failureMessages || []).join(' ').replace(/\x1b\[[0-9;]*m/g, '').replace(/\s+/g, ' ').slice(0, 300)
    lines.push(`${name}\t${is}\t${is === 'ok' ? '' : reason(name, is, said)}`)
  }
  if (file.assertionResults.length === 0) lines.push(`${where}\tfail\tthe file could not be run`)
}
console.log(lines.sort().join('\n'))
