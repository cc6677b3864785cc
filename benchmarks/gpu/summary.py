from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import read
from benchmarks.registry import Record
from benchmarks.report import fastest, number

MAX_LINES, MAX_WIDTH = 80, 160
# The largest number of failures to list.
MAX_FAILURES = 25
# The comparisons in the phase of kernels.
OURS, BASELINES = ('ours', 'triton'), ('peer', 'naive')


def failures(output: Path, outcomes: dict[str, str]) -> Iterator[str]:
    """The failures of the library: aborted phases, cases with wrong numbers,
    and failed kernels of ours.
    """
    for name, outcome in outcomes.items():
        if outcome.startswith('FAILED'):
            yield f'{name}: {outcome}'
    for name in ('each_kernel_once', 'correctness'):
        for case in read(output / f'{name}.json').get('cases', ()):
            if case['outcome'] == 'failed':
                message = ' '.join(case.get('message', '').split())
                yield f'{case["name"]}: {message[-120:]}'
    sanitizer = sanitizer_of(output)
    if sanitizer.get('outcome') == 'failed':
        yield f'sanitizer: {sanitizer["message"]}'
    for name in ('kernels', 'scale'):
        for record in read(output / f'{name}.json').get('records', ()):
            if record['ours'] and record['status'] == 'failed':
                labels = ' '.join(map(str, record['labels'].values()))
                yield f'{record["family"]} {labels}: {record["reason"]}'
    for record in read(output / 'epoch.json').get('records', ()):
        if record['status'] == 'failed':
            yield f'epoch {epoch_name(record)}: {record["reason"]}'


def sanitizer_of(output: Path) -> dict[str, str]:
    """The outcome of the sanitizer, if it ran."""
    found = read(output / 'each_kernel_once.json')
    out: dict[str, str] = found.get('sanitizer', {})
    return out


def unavailable(output: Path) -> list[str]:
    """What is not installed, once for each family."""
    found = [
        f'{record["family"]}: {record["reason"]}'
        for name in ('kernels', 'scale')
        for record in read(output / f'{name}.json').get('records', ())
        if record['status'] == 'not available'
    ]
    sanitizer = sanitizer_of(output)
    if sanitizer.get('outcome') == 'not available':
        found.append(f'sanitizer: {sanitizer["message"]}')
    once = read(output / 'each_kernel_once.json')
    if 'not_available' in once:
        found.append(f'each_kernel_once: {once["not_available"]}')
    return list(dict.fromkeys(found))


def summarize(output: Path, outcomes: dict[str, str], seconds: float) -> str:
    lines = [f'{seconds:.0f} s', *environment_lines(output)]
    lines += [f'{name}: {outcome}' for name, outcome in outcomes.items()]
    wrong = list(failures(output, outcomes))
    lines += ['', f'failed: {len(wrong)}', *wrong[:MAX_FAILURES]]
    lines += [f'not available: {text}' for text in unavailable(output)]
    for part in (
        cases_lines(output, 'each_kernel_once'),
        cases_lines(output, 'correctness'),
        epoch_lines(output),
        scale_lines(output),
        kernel_lines(output),
    ):
        if part:
            lines += ['', *part]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f'... the rest is in {output}']
    return '\n'.join(line[:MAX_WIDTH] for line in lines)


def environment_lines(output: Path) -> list[str]:
    """The device and the rates, as far as they are known."""
    found = read(output / 'environment.json')
    if not found:
        return ['the device is not known']
    e, rates = found['environment'], dict(found['ceilings'])
    versions = ', '.join(f'{k} {v}' for k, v in e['versions'].items() if v)
    lines = [
        f'{e["device"]}, driver {e["driver"]}, commit {e["commit"]}',
        versions,
    ]
    copy = rates.pop('copy', None)
    if copy is not None:
        products = ', '.join(
            f'{name.removeprefix("matmul_")} {rate / 1e12:.1f}'
            for name, rate in rates.items()
        )
        lines.append(
            f'copy {copy / 1e9:.0f} GB/s; products in TFLOP/s: {products}'
        )
    # The last samples are those of a warm device.
    clocks = {k: s[-1] for k, s in found['clocks'].items() if s}
    if clocks:
        texts = (f'{k} {c["clocks.sm"]}' for k, c in clocks.items())
        most = found['limits'].get('clocks.max.sm')
        lines.append(f'clocks: {", ".join(texts)} (of {most})')
    return lines


def cases_lines(output: Path, name: str) -> list[str]:
    """Counts cases by outcome, and names one that did not end."""
    found = read(output / f'{name}.json')
    cases = found.get('cases', ())
    outcomes = [case['outcome'] for case in cases]
    if not outcomes:
        return []
    counts = ', '.join(
        f'{outcomes.count(name)} {name}' for name in dict.fromkeys(outcomes)
    )
    begun = [case['name'] for case in cases if case['outcome'] == 'begun']
    more = '' if found['complete'] else ' (not all were run)'
    names = f': did not end: {", ".join(begun)}' if begun else ''
    return [f'{name}: {counts}{more}{names}']


def epoch_name(record: dict[str, Any]) -> str:
    graphs = ' with CUDA graphs' if record['cuda_graphs'] else ''
    return f'{record["mode"]} {record["backend"]}{graphs}'


def epoch_lines(output: Path) -> list[str]:
    found = read(output / 'epoch.json')
    lines = (
        [f'epoch on {found["graph"]}, seconds, and per step:'] if found else []
    )
    for record in found.get('records', ()):
        m = record['metrics']
        if 'epoch_s' not in m:
            continue
        phases = ' + '.join(
            number(m[f'{name}_s'])
            for name in ('diffusion', 'generate', 'recommend')
        )
        text = f'{number(m["epoch_s"])} = {phases}'
        for name in ('operations', 'launches', 'waits'):
            if f'{name}_per_step' in m:
                text += f', {m[f"{name}_per_step"]:.3g} {name}'
        if 'not_counted' in m:
            text += f', not counted: {m["not_counted"]}'
        peak = m['peak_bytes'] / 1e9
        lines.append(f'  {epoch_name(record)}: {text}, {peak:.2f} GB')
    return lines


def scale_lines(output: Path) -> list[str]:
    return [
        f'scale {record["labels"]["phase"]}: '
        f'{number(record["metrics"]["seconds"])} s, '
        f'{record["metrics"]["peak_bytes"] / 1e9:.1f} GB'
        for record in read(output / 'scale.json').get('records', ())
        if 'seconds' in record['metrics']
    ]


def kernel_lines(output: Path) -> list[str]:
    """Compares ours with the best other implementation for each kernel and
    input, and gives the geometric mean of each family.
    """
    problems: dict[tuple, dict[str, dict[str, float]]] = {}
    families: dict[str, list[Record]] = {}
    for record in read(output / 'kernels.json').get('records', ()):
        if 'ms' not in record['metrics']:
            continue
        families.setdefault(record['family'], []).append(Record(**record))
        labels = dict(record['labels'])
        backend = labels.pop('backend')
        key = record['family'], *map(str, labels.values())
        problems.setdefault(key, {})[backend] = record['metrics']
    lines, ratios = [], {}
    for (family, *labels), found in problems.items():
        peers = {k: m for k, m in found.items() if k.startswith(BASELINES)}
        ours = {k: m for k, m in found.items() if k.startswith(OURS)}
        if not peers or not ours:
            continue
        peer = min(peers, key=lambda k: peers[k]['ms'])
        parts = []
        for name, m in ours.items():
            ratio = peers[peer]['ms'] / m['ms']
            ratios.setdefault((family, name), []).append(ratio)
            share = f'{100 * m["share_of_copy"]:.0f} %'
            parts.append(f'{name} {number(m["ms"])} ms {share} {ratio:.2f}x')
        text = f'{peer} {number(peers[peer]["ms"])} ms'
        lines.append(
            f'  {family} {" ".join(labels)}: {"; ".join(parts)}; {text}'
        )
    heads = []
    for (family, name), values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        heads.append(
            f'{family}: {name} against the best of the others, geometric mean '
            f'{mean:.2f}x, least {min(values):.2f}x, {len(values)} rows'
        )
    for name, found in families.items():
        text = f'{name}: {fastest(found)}'
        heads += textwrap.wrap(text, MAX_WIDTH, subsequent_indent='  ')
    title = ['kernels (of copy: share of the bandwidth of a copy):']
    return heads + title + lines if lines else []
