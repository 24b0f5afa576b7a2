"""The phrases and sentences of answers, in English and Chinese."""

from __future__ import annotations

from collections.abc import Sequence

# Phrases by name, in English and Chinese.
_PHRASES = {
    name: phrases
    for name, *phrases in (
        line.split(" | ")
        for line in """
no solution | {} has no solution | {} 无解
no real solution | {} has no real solution | {} 没有实数解
complex | {} has no real solution; the complex ones are {} | {} 没有实数解；复数解为 {}
real only | the only real solution is {} | 唯一的实数解是 {}
real | the real solutions are {} | 实数解为 {}
one solution | the solution is {} | 解为 {}
solutions | the solutions are {} | 解为 {}
always | {} is true for all real numbers: it has infinitely many solutions | {} 恒成立，有无穷多解
dependent | the equations depend on each other: there are infinitely many solutions | 有无穷多解
contradiction | the equations contradict each other: no solution | 方程组无解
discriminant | the discriminant is {} | 判别式为 {}
eliminate | eliminating {} gives {} | 消去 {} 得 {}
parameters | for {} ≠ 0, {} | 当 {} ≠ 0 时，{}
with | with {}, {} | 当 {} 时，{}
irreducible | {} cannot be factored over the rational numbers | {} 在有理数范围内不能因式分解
undefined | {} is undefined, because one cannot divide by zero | {} 没有意义，因为除数不能为零
vertical | the line is vertical, so its slope is undefined | 直线垂直于 x 轴，斜率不存在
arithmetic | each term is {} more than the one before | 公差为 {}
falling | each term is {} less than the one before | 公差为 -{}
geometric | each term is {} times the one before | 公比为 {}
quadratic | the differences grow by {} each time | 相邻两项的差每次增加 {}
fibonacci | each term is the sum of the two before | 每一项是前两项之和
next | the next term is {} | 下一项是 {}
nth | term number {} is {} | 第 {} 项是 {}
prime | {} is a prime number | {} 是质数
increased | an increase of {} | 增加 {}
decreased | a decrease of {} | 减少 {}
all reals | all real numbers | 全体实数
quotient | the quotient is {} | 商为 {}
remainder | the remainder is {} | 余数为 {}
minimum | the minimum is {} | 最小值为 {}
maximum | the maximum is {} | 最大值为 {}
determinant | the determinant is {} | 行列式为 {}
singular | the determinant is 0, so the matrix has no inverse | 行列式为 0，矩阵不可逆
rank | the rank is {} | 秩为 {}
trace | the trace is {} | 迹为 {}
sum | the sum is {} | 和为 {}
sorted | in order they are {} | 从小到大为 {}
gcd | the greatest common divisor of {} is {} | {} 的最大公约数是 {}
lcm | the least common multiple of {} is {} | {} 的最小公倍数是 {}
""".strip().splitlines()
    )
}
# Named at the beginning of an answer that uses a convention (`readings.assume`).
_CONVENTIONS = {
    "fractions": ("with slashes as fraction bars", "斜线表示分数线"),
    "log": ("with logarithms to base 10", "对数以 10 为底"),
}
_WORDS = {english.split()[0] for english, _ in (*_PHRASES.values(), *_CONVENTIONS.values())}
_FIRST_WORDS = _WORDS - {"a"}  # which may be a variable


class Words:
    """Builds the sentences of an answer.

    Args:
        chinese: write Chinese instead of English.
        assumed: names of the conventions that the answer uses.
    """

    def __init__(self, chinese: bool, assumed: Sequence[str] = ()) -> None:
        self._chinese = chinese
        said = [_CONVENTIONS[name][chinese] + ("，" if chinese else ", ") for name in assumed]
        self._before = "".join(said)

    def phrase(self, name: str, *parts: object) -> str:
        """One of the phrases above, without a full stop."""
        return _PHRASES[name][self._chinese].format(*parts)

    def so(self, step: str, result: str) -> str:
        """A sentence with a step and its result, or the result alone if there is no step."""
        if not step or step == result:
            return self.sentence(result)
        return self.sentence(f"{step}{'，所以 ' if self._chinese else ', so '}{result}")

    def sentence(self, text: str) -> str:
        """A sentence with a full stop; its first word is capitalized."""
        text = self._before + text
        if self._chinese:
            return f"{text}。"
        first, _, rest = text.partition(" ")
        return f"{first.capitalize()} {rest}." if first in _FIRST_WORDS else f"{text}."

    def either(self, parts: Sequence[str]) -> str:
        """Join alternatives with "or"."""
        return (" 或 " if self._chinese else " or ").join(parts)

    def both(self, parts: Sequence[str]) -> str:
        """Join parts with "and"."""
        if self._chinese:
            return "，".join(parts)
        return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"

    def listed(self, parts: Sequence[object]) -> str:
        """Join values as "4, 6 and 10"."""
        texts = [str(part) for part in parts]
        if self._chinese:
            return f"{'、'.join(texts[:-1])} 和 {texts[-1]}"
        return self.both(texts)
