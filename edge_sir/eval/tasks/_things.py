"""Things to buy, common and rare ones side by side; none is part of another."""

from edge_sir.eval._words import words

__all__ = ["GROCERIES"]

GROCERIES = words(
    "milk,bread,tea,rice,cheese,eggs,water,juice,butter,apples,coffee,sugar,honey,flour,oranges,fish,chicken,"
    "olive oil,peanut cream,black beans,baking powder,maple syrup,oat flakes,ginger ale,soy sauce,sea salt,red wine,"
    "saffron,tahini,kohlrabi,tempeh,marzipan,wasabi,capers,horseradish,pumpernickel,tapioca,artichokes"
)
