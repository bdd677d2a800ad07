"""Groceries, from common to odd; none of them is a word of our common-sense questions."""

__all__ = ["GROCERIES"]

GROCERIES: tuple[str, ...] = tuple(
    """
    milk, eggs, butter, bread, rice, sugar, salt, flour, honey, yogurt, cheddar, salmon, shrimp, tofu, olive oil,
    peanut butter, brown rice, oat flakes, maple syrup, vanilla extract, baking soda, coconut milk, soy sauce,
    black beans, chickpeas, lentils, spaghetti, tomatoes, spinach, carrots, garlic, ginger, mushrooms, cucumbers,
    zucchini, bananas, lemons, blueberries, grapes, pineapple, walnuts, almonds, raisins, cinnamon, mustard, vinegar,
    coffee, green tea, dark chocolate, crackers, popcorn, sauerkraut
    """.replace("\n", " ")
    .strip()
    .split(", ")
)
